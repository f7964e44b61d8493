"""Domain values as PostgreSQL keeps them."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from healer.domain.alert import Alert
from healer.domain.run import Run, StepRecord
from healer.store.rows import decode_run

decode_alert = msgspec.json.Decoder(Alert).decode
decode_step = msgspec.json.Decoder(StepRecord).decode


def plain(text: str) -> str:
    """`text` for a column that is only looked for: PostgreSQL's text holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def run_with(doc: str, steps: Sequence[str]) -> Run:
    """A run with its steps, each as it is kept."""
    return replace(decode_run(doc), steps=tuple(map(decode_step, steps)))
