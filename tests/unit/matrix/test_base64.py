"""Unpadded Base64, as the appendices have it."""

import pytest

from homeserver.matrix import base64
from tests.support.vectors import vectors


def test_cry_01_the_vectors_of_the_specification() -> None:
    for case in vectors("unpadded_base64")["cases"]:
        raw = case["input_utf8"].encode()
        assert base64.encode(raw) == case["output"]
        assert base64.decode(case["output"]) == raw


def test_cry_01_the_decoder_tolerates_padding() -> None:
    assert base64.decode("Zg==") == base64.decode("Zg=") == base64.decode("Zg") == b"f"


def test_cry_01_both_alphabets_are_read_and_each_is_written() -> None:
    raw = b"\xfb\xff\xfe"
    assert (base64.encode(raw), base64.encode_url_safe(raw)) == ("+//+", "-__-")
    assert base64.decode("+//+") == base64.decode("-__-") == base64.decode("+__-") == raw


@pytest.mark.parametrize(
    "text", ["a", "a===", "Zg===", "====", "Z=g", "Zm9v!", "Zm 9v", "é", "Zm9v\n", "\ud800"]
)
def test_cry_02_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not Base64"):
        base64.decode(text)
