"""Label selectors as Kubernetes reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalers.apiserver.selectors import EVERYTHING, LONGEST, BadSelector, parse

WEB = {"app": "web", "tier": "front", "n": "7", "example.com/x": "y", "empty": ""}


@pytest.mark.parametrize("text", [
    "", "  ", "app", "app=web", "app==web", "app = web", "app!=api", "ghost!=x", "!ghost",
    "app in (web,api)", "app in ( web , api )", "app notin (api)", "ghost notin (x)", "n>6", "n<8",
    "app=web,tier=front", "app,!ghost,n>0", "example.com/x=y", "empty=", "empty in ()",
    "empty=,app",
    "empty in (,a)", "app in (web),tier notin (back),!ghost",
])  # fmt: skip
def test_what_matches(text: str) -> None:
    """Each of these is met by the labels."""
    assert parse(text).matches(WEB)


@pytest.mark.parametrize("text", [
    "ghost", "!app", "app=api", "app!=web", "app in (api)", "app notin (web)", "n>7", "n<7",
    "app>1", "app=web,tier=back", "empty=x", "app=", "ghost=", "in", "notin",
])  # fmt: skip
def test_what_does_not_match(text: str) -> None:
    """Each of these is a selector that the labels do not meet."""
    assert not parse(text).matches(WEB)


@pytest.mark.parametrize("text", [
    ",", "a,", "=a", "a b", "a in", "a in (", "a in (b", "a in b", "a=b c", "a>b", "a>", "!",
    "!a=b", "-a", "a-", "a=-b", "a in (b,c))", "/a", "a/", "A.b/c", "a/b/c", "a=" + "b" * 64,
    "a" * 64, "(", "a=b,,c", "x" * (LONGEST + 1),
])  # fmt: skip
def test_what_is_no_selector(text: str) -> None:
    """Each of these is refused with a text that says at what."""
    with pytest.raises(BadSelector, match=r"\w"):
        parse(text)


def test_nothing_is_everything() -> None:
    """An empty selector is the one that matches everything, also no labels at all."""
    assert parse("") is EVERYTHING
    assert parse("").matches({})


@given(st.text(alphabet="abin(),=!<> ./0-\té", max_size=40))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    """No text does anything but parse or raise BadSelector, and what parses can be matched."""
    try:
        selector = parse(text)
    except BadSelector:
        return
    assert selector.matches(WEB) in {True, False}
