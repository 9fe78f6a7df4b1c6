"""Glob patterns, whole and by word."""

import time

import pytest

from homeserver.matrix.glob import Glob, is_literal


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
    assert (Glob(pattern).matches(text), Glob(pattern).matches_word(text)) == (whole, word)


def test_many_stars_take_no_longer_than_few() -> None:
    """A pattern is anybody's: with backtracking this would take longer than the universe."""
    pattern = Glob("a*" * 200 + "b")
    began = time.process_time()
    assert not pattern.matches("a" * 20_000)
    assert not pattern.matches_word("a" * 20_000)
    assert time.process_time() - began < 5


def test_literal() -> None:
    assert is_literal("!room:one.example")
    assert not is_literal("a?")
    assert not is_literal("*")
