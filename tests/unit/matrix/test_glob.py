"""Glob patterns, whole and by word."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.matrix.glob import Glob, OutOfWork, StarGlob, WorkBudget, fold, glob, has_word, is_literal


@pytest.mark.parametrize(
    ("pattern", "text", "whole", "word"),
    [
        ("lunc?*", "Lunch plans", True, True),
        ("lunc?*", " lunch", False, True),
        ("lunc?*", "lunc", False, False),
        ("", "", True, True),
        ("", "x", False, False),
        ("*", "", True, True),
        ("*", "any\nthing", True, True),
        ("a?c", "a\nc", True, True),
        ("ex*ple", "An exciting triple-whammy", False, True),
        ("bob", "Bob, hello", False, True),
        ("bob", "bobby", False, False),
        ("bob", "my_bob", False, False),
        ("bob", "grüßbobß", False, True),  # only A-Z, a-z, 0-9 and _ are letters of words
        ("@room", "hey @room!", False, True),
        ("a.c", "abc", False, False),
        ("a*b*c", "a--b--c", True, True),
        ("a*b*c", "a--c--b", False, False),
        ("ab*ba", "aba", False, False),
        ("*ba", "aba", True, True),
    ],
)
def test_push_05_patterns(pattern: str, text: str, whole: bool, word: bool) -> None:
    work = WorkBudget(10**6)
    found = glob(pattern)
    assert (found.matches(fold(text), work), found.matches_word(fold(text), work)) == (whole, word)


HUNGRY = {
    "many stars": ("a*" * 500 + "b", "a" * 60_000),
    "many marks": ("?" * 1000, "a" * 60_000),
    "marks and letters": ("a?" * 500 + "b", "a" * 60_000),
    "almost there": ("a" * 500 + "b" + "a" * 500, "a" * 60_000),
    "a word that never ends": ("a", "a" * 60_000),
    "shifted": ("ab" * 500 + "?", "ab" * 30_000),
}


@pytest.mark.parametrize(("pattern", "text"), HUNGRY.values(), ids=HUNGRY)
def test_what_a_match_costs_is_counted(pattern: str, text: str) -> None:
    """A pattern is anybody's: with backtracking some of these would take longer than the universe."""
    for name in ("matches", "matches_word"):
        compiled, work = Glob(pattern), WorkBudget(2**21)
        began = time.thread_time()
        try:
            getattr(compiled, name)(text, work)
        except OutOfWork:
            continue
        finally:
            assert time.thread_time() - began < 0.5
        with pytest.raises(OutOfWork):
            getattr(compiled, name)(text, WorkBudget(2**21 - work.left - 1))


@given(st.text("ab*? _-", max_size=8), st.text("aAb _-", max_size=12))
def test_globs_match_as_regular_expressions_would(pattern: str, text: str) -> None:
    plain = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    whole = re.fullmatch(plain, text, re.IGNORECASE | re.DOTALL) is not None
    word = re.search(f"(?<![A-Za-z0-9_]){plain}(?![A-Za-z0-9_])", text, re.IGNORECASE | re.DOTALL) is not None
    work, found = WorkBudget(10**6), glob(pattern)
    assert (found.matches(fold(text), work), found.matches_word(fold(text), work)) == (whole, word)


@given(st.text("ab*?", max_size=8), st.text("aAb?", max_size=12))
def test_a_filter_knows_stars_alone_and_case_counts(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
    assert StarGlob(pattern + "*").matches(text + "?") is (
        re.fullmatch(".*".join(map(re.escape, (pattern + "*").split("*"))), text + "?", re.DOTALL) is not None
    )
    assert "*" not in pattern or StarGlob(pattern).matches(text) is expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("ΟΔΟΣ", "οδος"), ("İzmir", "izmir"), ("ЁЖ", "ёж"), ("ÖMER", "ömer"), ("Straße", "STRAßE")],
)
def test_case_is_folded_letter_for_letter(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert len(fold(one)) == len(one)
    assert has_word(fold(f"so {one}!"), fold(other), WorkBudget(10**6))


def test_literal() -> None:
    assert is_literal("!room:one.example")
    assert not is_literal("a?")
    assert not is_literal("*")
