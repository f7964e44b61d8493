"""docs/actions.md is what the code says."""

from pathlib import Path

from healer.actions.registry import ACTIONS
from healer.probes.catalogue import markdown
from healer.probes.registry import PROBES

PAGE = Path(__file__).parents[2] / "docs" / "actions.md"


def test_the_page_is_true() -> None:
    """docs/actions.md is exactly what the actions and probes say of themselves today."""
    assert PAGE.read_text() == markdown(), "write docs/actions.md again with `markdown()`"


def test_the_page_is_whole() -> None:
    """Every action and every probe has a heading of its own on the page."""
    headings = {line[4:] for line in markdown().splitlines() if line.startswith("### ")}
    assert headings == {*ACTIONS, *PROBES}
