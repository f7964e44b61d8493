"""Domain values as JSON text and back."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite
from operator import itemgetter
from typing import Any

import msgspec

from healer.domain.alert import Alert
from healer.domain.budget import Bucket
from healer.domain.episode import Episode
from healer.domain.facts import Approval
from healer.domain.journal import Fact, FactKind, Sealed
from healer.domain.pause import Pause
from healer.domain.run import Run, StepRecord
from healer.domain.verdict import Reason


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be kept in the journal; make it plain JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)

decode_any = msgspec.json.Decoder().decode
decode_episode = msgspec.json.Decoder(Episode).decode
decode_run = msgspec.json.Decoder(Run).decode
decode_step = msgspec.json.Decoder(StepRecord).decode
_decode_steps = msgspec.json.Decoder(list[tuple[int, str, StepRecord]]).decode
_first = itemgetter(0)
_decode_buckets = msgspec.json.Decoder(list[tuple[str, float, float]]).decode
decode_pause = msgspec.json.Decoder(Pause).decode
decode_approval = msgspec.json.Decoder(Approval).decode
#: What `fold_next` returns: (seq, accepted at, alert, latest episode of that alert).
decode_fold_rows = msgspec.json.Decoder(list[tuple[int, float, Alert, Episode | None]]).decode


def encode(value: Any) -> str:
    """`value` as JSON text. Raises TypeError for what JSON cannot hold."""
    return _encoder.encode(value).decode()


def encode_episode(episode: Episode) -> str:
    """An episode as JSON text. JSON has no infinity, so `next_at` must be finite (ValueError)."""
    if not isfinite(episode.next_at):
        raise ValueError(f"{episode.id}: next_at must be finite, got {episode.next_at}")
    return encode(episode)


def encode_run(run: Run) -> str:
    """A run without its steps, which have rows of their own."""
    return encode(replace(run, steps=()))


def with_steps(runs: Iterable[Run], rows: Iterable[tuple[str, str]]) -> list[Run]:
    """The runs with their steps, from (run id, step) rows in the order of their intents."""
    return _joined(runs, ((run_id, decode_step(doc)) for run_id, doc in rows))


def with_all_steps(runs: Iterable[Run], text: str | None) -> list[Run]:
    """The runs with their steps, from one JSON text of (number, run id, step), in any order."""
    rows = sorted(_decode_steps(text), key=_first) if text else []
    return _joined(runs, ((run_id, step) for _, run_id, step in rows))


def _joined(runs: Iterable[Run], rows: Iterable[tuple[str, StepRecord]]) -> list[Run]:
    steps: dict[str, list[StepRecord]] = {}
    for run_id, step in rows:
        steps.setdefault(run_id, []).append(step)
    return [replace(run, steps=tuple(steps.get(run.id, ()))) for run in runs]


def decode_buckets(text: str) -> dict[str, Bucket]:
    """Buckets by key, from what `buckets_all` returns."""
    return {key: Bucket(tokens, at) for key, tokens, at in _decode_buckets(text)}


def decode_sealed(row: tuple[Any, ...]) -> Sealed:
    """A fact in its place, from a row of `facts_all` or `facts_of`."""
    seq, kind, at, episode_id, run_id, reason, detail, data, previous, hashed = row
    fact = Fact(
        FactKind(kind),
        at,
        episode_id,
        run_id,
        Reason(reason) if reason is not None else None,
        detail,
        decode_any(data),
    )
    return Sealed(seq, fact, previous, hashed)
