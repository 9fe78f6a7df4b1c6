"""Canonical JSON: the vectors, floats in old rooms, and where a mistake is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.matrix import canonical_json, json
from homeserver.matrix.errors import BadJson
from tests.support.vectors import vectors


def test_cry_01_the_vectors_of_the_specification() -> None:
    for case in vectors("canonical_json")["cases"]:
        assert canonical_json.of_text(case["input_json"].encode()).decode() == case["output"]


def test_cry_01_decoding_and_encoding_gives_the_same_for_every_vector_without_an_exponent() -> None:
    for case in vectors("canonical_json")["cases"]:
        if "1e10" not in case["input_json"]:
            assert canonical_json.encode(json.loads(case["input_json"])).decode() == case["output"]


def test_api_22_evt_05_what_room_versions_from_6_on_refuse() -> None:
    for text in vectors("canonical_json")["invalid_in_room_versions_6_and_later"]["inputs_json"]:
        with pytest.raises((BadJson, ValueError)):
            canonical_json.check_strict(json.loads(text))


def test_what_the_grammar_forbids_but_the_examples_convert() -> None:
    """An exponent makes a float, which is refused where canonical JSON is strict; minus zero is the integer zero."""
    with pytest.raises(BadJson):
        canonical_json.check_strict(json.loads(b'{"a":1e10}'))
    assert canonical_json.encode(json.loads(b'{"a":-0}')) == b'{"a":0}'


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": 1.5}, "a"),
        ({"a": {"b": [1, {"c": 2**53}]}}, "a.b[1].c"),
        ({"a": -(2**53)}, "a"),
        ({"a": ["\ud800"]}, "a[0]"),
        ({"\udfff": 1}, "a key that is not text"),
        ([0.0], "[0]"),
        (float("nan"), "value"),
        ({"a": {1, 2}}, "a"),
    ],
)
def test_api_22_a_refusal_names_the_place(value: Any, place: str) -> None:
    with pytest.raises(BadJson, match=r".+") as refusal:
        canonical_json.check_strict(value)
    assert place in refusal.value.error
    refusal.value.error.encode()  # can be answered, whatever the key was


def test_api_22_the_place_is_counted_from_where_the_caller_says() -> None:
    with pytest.raises(BadJson) as refusal:
        canonical_json.check_strict({"a": [1.5]}, where="content")
    assert refusal.value.error.startswith("content.a[0]: ")


def test_the_largest_integers_are_allowed() -> None:
    canonical_json.check_strict({"a": [2**53 - 1, -(2**53) + 1], "b": [None, True, "é", {}]})


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> Any:
        value: Any = []
        for _ in range(depth - 1):
            value = {"a": value}
        return value

    canonical_json.check_strict(nested(canonical_json.MAX_DEPTH))
    for depth in (canonical_json.MAX_DEPTH + 1, 100_000):
        with pytest.raises(BadJson, match="nested deeper"):
            canonical_json.check_strict(nested(depth))
    for encode in (canonical_json.encode, canonical_json.encode_strict):
        with pytest.raises(ValueError, match="too deep"):
            encode(nested(100_000))
    with pytest.raises(ValueError, match="too deep"):
        canonical_json.encode({"float": 1.5, "deep": nested(100_000)})


def test_nesting_is_counted_outside_strings() -> None:
    assert not canonical_json.nested_deeper(b'{"a":"' + b"[{" * 50 + rb"\"[" + b'"}', 10)
    assert canonical_json.nested_deeper(b"[" * 11 + b"]" * 11, 10)
    assert not canonical_json.nested_deeper(b"[" + b"[]," * 50 + b"[]]", 2)


def test_floats_in_old_rooms_are_written_as_every_other_server_did() -> None:
    assert (
        canonical_json.encode({"a": [1e22, 1e10, 0.1, -0.0, 50.0]})
        == b'{"a":[1e+22,10000000000.0,0.1,-0.0,50.0]}'
    )


@pytest.mark.parametrize(
    "value", [{"a": float("nan")}, {"a": float("inf")}, {"a": "\ud800"}, {"a": {1, 2}, "b": 1.5}]
)
def test_what_json_cannot_say_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical_json.encode(value)


def test_keys_are_sorted_by_code_point() -> None:
    assert canonical_json.encode({"\U0001f600": 1, "\uffff": 2, "b": 3, "B": 4}).decode() == (
        '{"B":4,"b":3,"\uffff":2,"\U0001f600":1}'
    )


def test_only_what_must_be_escaped_is() -> None:
    text = "".join(map(chr, range(0x21))) + '"\\/\x7f\u2028é'
    assert canonical_json.encode(text) == (
        rb'"\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f'
        rb"\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f"
        b' \\"\\\\/\x7f' + "\u2028é".encode() + b'"'
    )


@pytest.mark.parametrize(
    "text", ["", "{", '{"a":1.5}', '{"a":1e300}', '{"a":9007199254740992}', "[" * 100_000, "NaN"]
)
def test_text_without_a_canonical_form_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical_json.of_text(text)


def test_keys_that_are_no_text_are_a_value_error() -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical_json.encode_strict({1: 2})
    with pytest.raises(BadJson, match="not text"):
        canonical_json.check_strict({1: 2})


anything = st.recursive(
    st.none() | st.text('ab[]{}\\"', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}\\"', max_size=2), inner, max_size=3)
    ),
)


@given(anything, st.integers(0, 6))
def test_depth_is_that_of_the_value(value: Any, limit: int) -> None:
    def depth(item: Any) -> int:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert canonical_json.nested_deeper(json.dumps(value), limit) is (depth(value) > limit)
