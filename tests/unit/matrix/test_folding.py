# ruff: noqa: RUF001  # letters that look like others are what this is about
"""Texts that people take for the same are one text when folded (CHECKLIST DIR-04)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.matrix.folding import MAX_FOLDED, MAX_WORDS, fold, words


@pytest.mark.parametrize(
    "same",
    [
        ["Иван Петров", "иван петров", "ИВАН  ПЕТРОВ"],
        ["Ömer", "ömer", "ÖMER", "O\u0308mer", "omer"],
        ["Ελένη", "ελένη", "ΕΛΕΝΗ", "ελενη"],
        ["ὈΔΥΣΣΕΎΣ", "Ὀδυσσεύς", "οδυσσευς"],
        ["Łukasz", "łukasz", "LUKASZ"],
        ["Große", "GROSSE", "große", "GROẞE"],
        ["İstanbul", "istanbul", "ISTANBUL", "ıstanbul"],
        ["Émile", "emile"],
        ["Ёлка", "елка"],
        ["Søren Ærø", "soren aero"],
        ["Đặng", "dang"],
        ["Ｔｅａｍ", "team"],
        ["ｶﾞ", "ガ"],
        ["ﬁn", "fin"],
        ["שָׁלוֹם", "שלום"],
        ["مُحَمَّد", "محمد"],
        ["한글", unicodedata.normalize("NFD", "한글")],
        ["a\u200bb\u00ad", "ab"],
        ["  a\t\nb\u00a0c ", "a b c"],
        ["x\0y\ud800", "xy"],
        ["", " ", "\u0301"],
    ],
)
def test_these_are_the_same(same: list[str]) -> None:
    assert len({fold(text) for text in same}) == 1


@pytest.mark.parametrize(
    "different",
    [
        ["か", "が"],
        ["ハ", "パ"],
        ["कि", "की", "क"],
        ["มา", "ม้า"],
        ["东京", "東京"],
        ["и", "н"],
        ["한", "하"],
        ["a b", "ab"],
    ],
)
def test_these_are_not(different: list[str]) -> None:
    assert len({fold(text) for text in different}) == len(different)


@given(st.text(st.characters(codec=None), max_size=50))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(max_size=50), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_the_normal_form_does_not_matter(text: str, form: str) -> None:
    assert fold(unicodedata.normalize(form, text)) == fold(text)  # type: ignore[arg-type]  # one of four


@given(st.text(max_size=50))
def test_what_is_folded_can_be_stored(text: str) -> None:
    folded = fold(text)
    assert "\0" not in folded
    folded.encode()


def test_every_character_by_itself() -> None:
    for code in range(0x110000):
        folded = fold(chr(code))
        assert fold(folded) == folded, hex(code)
        assert len(folded) <= 18


def test_texts_are_bounded() -> None:
    assert len(fold("x" * 10 * MAX_FOLDED)) == MAX_FOLDED
    assert len(words(" ".join(map(str, range(100))))) == MAX_WORDS
    assert words(" Иван  иван петров ") == ["иван", "петров"]
