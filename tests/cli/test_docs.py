"""The generated parts of the docs are what the code says."""

from pathlib import Path

import pytest

from healer.cli import cli
from healer.cli.reference import generated, markdown
from healer.domain.verdict import Reason

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "configuration.md": "settings",
    "cli.md": "commands",
    "metrics.md": "metrics",
    "reasons.md": "reasons",
}


@pytest.mark.parametrize(("page", "block"), PAGES.items())
def test_the_page_says_what_the_code_says(page: str, block: str) -> None:
    """The page's generated block is up to date; `healer docs docs/PAGE` writes it anew."""
    text = (DOCS / page).read_text()
    assert f"<!-- generated: {block} -->" in text
    assert generated(text, cli) == text


def test_every_reason_is_explained() -> None:
    """Each reason has a row with what it says and what a person can do."""
    table = markdown("reasons", cli)
    for reason in Reason:
        assert f"| `{reason}` |" in table


def test_metrics_are_named_by_convention() -> None:
    """Every metric begins with `healer_`, counters end in `_total`, times are in seconds."""
    rows = [line.split(" | ") for line in markdown("metrics", cli).splitlines()[2:]]
    assert len(rows) > 20
    for name, kind, *_ in rows:
        bare = name.strip("| `")
        assert bare.startswith("healer_")
        assert bare.endswith("_total") == (kind == "counter"), bare
        assert "_ms" not in bare
        assert "_minutes" not in bare
