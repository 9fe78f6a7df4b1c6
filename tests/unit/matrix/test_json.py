"""JSON at the edge: nothing is lost, nothing crashes."""

import msgspec
import pytest

from homeserver.matrix import json
from homeserver.matrix.errors import BadJson, NotJson


def test_integers_keep_every_digit() -> None:
    big = 123_456_789_012_345_678_901_234_567_890
    assert json.loads(b'{"a":123456789012345678901234567890}') == {"a": big}
    assert json.loads(json.dumps({"a": -big})) == {"a": -big}


def test_the_last_of_equal_keys_counts() -> None:
    assert json.loads(b'{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a":1}x',
        b'{"a":NaN}',
        b'{"a":1e400}',
        b'{"a":01}',
        b'{"a":"\xed\xa0\x80"}',
        rb'{"a":"\ud800"}',
        b'{"\xff":1}',
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"9" * 5000 + b"}",
        "\ud800",
    ],
)
def test_what_is_no_json_is_a_value_error(text: bytes | str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        json.loads(text)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_does_not_blow_the_stack(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    with pytest.raises(ValueError, match="deep"):
        json.loads(opening * 1_000_000 + b"1" + closing * 1_000_000)


def test_what_cannot_be_written_is_a_value_error() -> None:
    nested: object = 1
    for _ in range(100_000):
        nested = [nested]
    for value in (nested, {"a": "\ud800"}):
        with pytest.raises(ValueError, match=r".+"):
            json.dumps(value)


def test_api_03_a_body_that_is_not_json_is_told_apart_from_one_of_the_wrong_shape() -> None:
    assert json.loads_object(b'{"a":1}') == {"a": 1}
    for text in (b"", b"{", b"nonsense"):
        with pytest.raises(NotJson):
            json.loads_object(text)
    for text in (b"[]", b"1", b"null", b'"a"'):
        with pytest.raises(BadJson):
            json.loads_object(text)


def test_members_are_spliced_into_an_object() -> None:
    assert json.object_with(b"{}", b'"a":1') == b'{"a":1}'
    assert json.object_with(b'{"a":1}', b'"b":2,"c":{}') == b'{"a":1,"b":2,"c":{}}'
    assert json.object_with(b'{"a":1}', b"") == b'{"a":1}'


def test_ready_made_bytes_are_copied_as_they_are() -> None:
    assert json.dumps({"a": msgspec.Raw(b"[1, 2]")}) == b'{"a":[1, 2]}'
