"""Hostile or random text is refused quickly and with a PlaybookSetError, never anything else."""

import json
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from healer.playbook_yaml import PlaybookSetError, Registry, parse
from healer.playbook_yaml.loader import load_bytes
from healer.playbook_yaml.yaml_text import MAX_BYTES, MAX_DEPTH, MAX_NODES

from .conftest import GOOD

N = 40_000
BOMBS = {
    "lists in lists": "[" * N,
    "mappings in mappings": "{" * N,
    "mappings in block lists": "- " * N,
    "keys of keys": "? " * N,
    "pairs in one line": "{a: " * N,
    "lists, one a line": "[\n" * N,
    "block mappings": "\n".join(" " * i + "a:" for i in range(600)),
    "many values": "[" + "a," * (N * 3),
    "many keys": "".join(f"k{i}: v\n" for i in range(25_000)),
    "long words": "a: " + "b " * (MAX_BYTES // 2 - 4),
    "long quoted": 'a: "' + "\\n" * (MAX_BYTES // 2 - 4) + '"',
    "comments": "#\n" * (MAX_BYTES // 2),
    "billion laughs": "a: &a [x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)},' * 9}]\n" for i in range(20)),
    "self reference": "a: &a [*a]\n",
    "directive": "%YAML " + "9" * 5000 + ".1\n---\na: b\n",
    "too big": "a" * (MAX_BYTES + 1),
    "tag": "!!python/object/apply:os.system [echo]\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_within_two_seconds(bomb: str, registry: Registry) -> None:
    """Text made to exhaust the reader is refused with its place after less than two seconds."""
    began = time.process_time()
    with pytest.raises(PlaybookSetError) as caught:
        parse(BOMBS[bomb], registry, "bomb.yaml")
    assert time.process_time() - began < 2.0
    assert str(caught.value.errors[0]).startswith("bomb.yaml:")


def test_the_limits_of_depth_and_number_are_exact(registry: Registry) -> None:
    """A nesting or number at the limit is read, and one more is refused by name."""
    deep = "a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    with pytest.raises(PlaybookSetError) as caught:
        parse(deep, registry)
    assert "nested deeper" not in str(caught.value)
    with pytest.raises(PlaybookSetError, match=f"nested deeper than {MAX_DEPTH}"):
        parse(deep.replace("[]", "[[]]"), registry)
    many = "a: [" + ", ".join("b" * (MAX_NODES - 3)) + "]"
    with pytest.raises(PlaybookSetError) as caught:
        parse(many, registry)
    assert "more than" not in str(caught.value)
    with pytest.raises(PlaybookSetError, match=f"more than {MAX_NODES} values"):
        parse(many.replace("]", ", b]"), registry)


def test_bytes_that_are_not_utf_8_are_refused_at_their_place(registry: Registry) -> None:
    """A byte that is not UTF-8 is named by line and column."""
    with pytest.raises(PlaybookSetError, match=r"x\.yaml:2:4: not UTF-8"):
        load_bytes(b"a: b\nc: \xff\n", registry, "x.yaml")


def only_our_error(text: str, registry: Registry) -> None:
    began = time.process_time()
    try:
        parse(text, registry, "fuzz.yaml")
    except PlaybookSetError as error:
        places = [(fault.line, fault.column) for fault in error.errors]
    else:
        places = [(1, 1)]
    assert places
    assert all(line >= 1 and column >= 1 for line, column in places)
    assert time.process_time() - began < 2.0


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
YAML_ALPHABET = st.sampled_from(
    [*"abc01-:?{}[],&*!|>'\"%@`#\n\t .$~<\\xU", "${", "  ", "\u2028", "\x85"]
)


@FUZZ
@given(text=st.one_of(st.text(), st.lists(YAML_ALPHABET, max_size=120).map("".join)))
def test_any_text_is_refused_only_in_our_words(text: str, registry: Registry) -> None:
    """Random text raises PlaybookSetError and nothing else, in less than two seconds."""
    only_our_error(text, registry)


@FUZZ
@given(
    at=st.integers(0, len(GOOD)),
    cut=st.integers(0, 40),
    put=st.one_of(st.text(max_size=10), st.lists(YAML_ALPHABET, max_size=10).map("".join)),
)
def test_any_small_change_is_read_or_refused_in_our_words(
    at: int, cut: int, put: str, registry: Registry
) -> None:
    """A valid playbook with any part cut out and anything put in never raises another error."""
    only_our_error(GOOD[:at] + put + GOOD[at + cut :], registry)


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-9, 9999), st.text(max_size=6), st.just("${labels.x}")
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = (
    "metadata",
    "spec",
    "when",
    "target",
    "guards",
    "steps",
    "escalate",
    "verify",
    "with",
    "storm",
    "unless",
    "probes",
    "action",
    "alert",
    "name",
    "budgets",
    "windows",
    "breaker",
    "if",
)


@FUZZ
@given(key=st.sampled_from(KEYS), value=values)
def test_any_value_of_any_shape_is_refused_in_our_words(
    key: str, value: object, registry: Registry
) -> None:
    """Whatever stands under a known key, the file is read or refused with our own error."""
    found = re.search(rf"^( *)(- )?{key}:.*\n", GOOD, re.MULTILINE)
    written = json.dumps(value, ensure_ascii=True)
    if found is None:
        text = GOOD.replace("    cooldown: 15m\n", f"    {key}: {written}\n")
    else:
        rest = GOOD[found.end() :]
        indent = len(found[1]) + len(found[2] or "")
        inner = re.match(rf"(?: {{{indent + 1},}}.*\n)*", rest)
        assert inner is not None
        text = (
            GOOD[: found.start()]
            + f"{found[1]}{found[2] or ''}{key}: {written}\n"
            + rest[inner.end() :]
        )
    only_our_error(text, registry)
