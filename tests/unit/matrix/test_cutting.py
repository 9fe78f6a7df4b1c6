"""Cutting text into words: whatever is looked for as it stands in a text is found there. CHECKLIST SRCH-01."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homeserver.matrix.cutting import MAX_TOKENS, Term, Token, cut, is_paired, read_term, runs
from homeserver.matrix.folding import fold
from homeserver.search.words import vector

LETTERS = st.text(st.sampled_from("abcé ßЯ東京都のカ한국วันี้नि-_.,\"'0 "), max_size=30)


def holds(words: list[str], row: tuple[Token, ...]) -> bool:
    """Whether a row of tokens stands somewhere in a text."""
    fits = [
        all(
            words[at + n].startswith(token.text) if token.prefix else words[at + n] == token.text
            for n, token in enumerate(row)
        )
        for at in range(len(words) - len(row) + 1)
    ]
    return any(fits)


def found(term: Term, text: str) -> bool:
    words = cut(text)
    return bool(term.rows) and all(holds(words, row) for row in term.rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, Wörld!", ["hello", "world"]),
        ("東京都へ", ["東京", "京都", "都へ", "へ"]),
        ("iPhoneを", ["iphone", "を"]),
        ("a_b-c.d", ["a", "b", "c", "d"]),
        ("नमस्ते", ["नमस्ते"]),
        ("", []),
        ("!?… 👍", []),
        ("x" * 100, ["x" * 64]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert cut(text) == words


@given(LETTERS)
@example("東京 a")
def test_a_text_is_found_by_itself(text: str) -> None:
    """SRCH-01."""
    if cut(text) and '"' not in text:
        assert found(read_term(text), text)
        assert found(read_term(f'"{text}"'), text)


@given(LETTERS, st.data())
def test_any_part_of_a_run_without_spaces_is_found(text: str, data: st.DataObject) -> None:
    """SRCH-01: two characters or more, and single ones."""
    for run in filter(is_paired, runs(fold(text))):
        start = data.draw(st.integers(0, len(run) - 1))
        end = data.draw(st.integers(start + 1, len(run)))
        if cut(run[start:end]):
            assert found(read_term(run[start:end]), text)


@given(LETTERS)
def test_the_beginning_of_the_last_word_finds_it(text: str) -> None:
    """SRCH-01."""
    last = (runs(fold(text)) or [""])[-1]
    if not is_paired(last) and len(last) > 2:
        assert found(read_term(text[: len(text)].rsplit(last[2:], 1)[0] or text), text)


@given(st.text(max_size=200))
def test_whatever_is_typed_makes_words_that_can_be_quoted(text: str) -> None:
    """SRCH-01: no word has a character that means something to PostgreSQL, or looks like a mark of the index."""
    term = read_term(text)
    words = [*cut(text), *(token.text for row in term.rows for token in row)]
    assert all(word and not set(word) & set("'\\.:&|!<>() \t\n\0") for word in words)
    assert sum(map(len, term.rows)) <= MAX_TOKENS


def test_places_of_words() -> None:
    assert vector("to be or not to be", 3, 5_000) == (
        "'to':1,5 'be':2,6 'or':3 'not':4 '.r3' '.a1' '.b0' '.c0' '.d0'"
    )
    assert vector("…", 3, 5_000) is None
    assert vector("x", 3, -1) == "'x':1 '.r3' '.a-1' '.b-1' '.c-1' '.d-1'"
