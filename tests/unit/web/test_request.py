"""Queries, JSON bodies and values as text: what is read, and where a mistake is said to be."""

import contextlib
import enum
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.matrix.errors import BadJson, InvalidParam, MissingParam, NotJson
from homeserver.matrix.ids import EventId, RoomAlias, RoomId, ServerName, UserId
from homeserver.web.body import accepts_nothing, json_decoder
from homeserver.web.convert import converter
from homeserver.web.request import origin_form, parse_query
from homeserver.web.stream import ClientTimeouts


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("a=1", {"a": ["1"]}),
        ("a=1&a=2&b", {"a": ["1", "2"], "b": [""]}),
        ("&&a=1&", {"a": ["1"]}),
        ("a=b=c", {"a": ["b=c"]}),
        ("a+b=c+d%2B", {"a b": ["c d+"]}),
        ("%C3%BC=%C3%BC", {"ü": ["ü"]}),
        ("a=%", {"a": ["%"]}),
        ("a=%zz", {"a": ["%zz"]}),
    ],
)
def test_a_query_is_read_like_a_form(text: str, fields: dict[str, list[str]]) -> None:
    assert parse_query(text) == fields


@pytest.mark.parametrize(
    "text", ["a=%FF", "%FF=a", "a=%00", "a=\udcff", "a=%ED%A0%80", "&".join(["a=1"] * 257)]
)
def test_a_query_that_is_no_text_or_too_much_is_invalid(text: str) -> None:
    """API-03"""
    with pytest.raises(InvalidParam):
        parse_query(text)


@given(st.text())
def test_any_query_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidParam):
        parse_query(text)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a?b", "/a?b"),
        ("http://h/a?b", "/a?b"),
        ("HTTPS://h", "/"),
        ("*", "/*"),
        ("h:80", "/h:80"),
        ("", "/"),
    ],
)
def test_a_request_target_is_read_as_path_and_query(target: str, path: str) -> None:
    assert origin_form(target) == path


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (str, "x", "x"),
        (int, "-12", -12),
        (bool, "true", True),
        (bool, "false", False),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Colour, "red", Colour.RED),
        (UserId, "@a:b", "@a:b"),
        (RoomId, "!a:b", "!a:b"),
        (
            RoomId,
            "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",
            "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",
        ),
        (RoomAlias, "#a:b", "#a:b"),
        (EventId, "$a", "$a"),
        (ServerName, "a:80", "a:80"),
    ],
)
def test_text_is_read_as_its_type(kind: Any, text: str, value: Any) -> None:
    assert converter(kind)(text, "name") == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, ""), (int, "1.5"), (int, "1e3"), (int, "\uff19"), (int, "+1"), (int, "9" * 17), (int, "9007199254740992"),
        (bool, "1"), (bool, "TRUE"), (Literal["a"], "b"), (Colour, "RED"), (UserId, "a:b"), (UserId, "@a"), (RoomId, "#a:b"),
        (RoomAlias, "!a:b"), (EventId, "a"), (ServerName, "a b"), (UserId, "@" + "a" * 300 + ":b"),
    ],
)  # fmt: skip
def test_text_outside_its_type_is_invalid_and_names_the_parameter(kind: Any, text: str) -> None:
    """API-03"""
    with pytest.raises(InvalidParam, match="name"):
        converter(kind)(text, "name")


class Optional(msgspec.Struct):
    a: int = 0


class Required(msgspec.Struct):
    a: int


@pytest.mark.parametrize(
    ("kind", "nothing"),
    [
        (Optional, True),
        (Required, False),
        (dict[str, Any], False),
        (dict, False),
        (Optional | None, True),
        (list[int], False),
    ],
)
def test_nothing_is_a_body_where_every_field_is_optional(kind: Any, nothing: bool) -> None:
    """API-05"""
    assert accepts_nothing(kind) is nothing


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused_as_the_client_s_mistake(raw: bytes) -> None:
    """API-03"""
    for kind in (dict[str, Any], Required, list[int]):
        with contextlib.suppress(NotJson, BadJson, MissingParam, InvalidParam):
            json_decoder(kind)(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_any_json_object_arrives_as_it_was_sent(value: Any) -> None:
    body = {"a": value}
    assert json_decoder(dict[str, Any])(msgspec.json.encode(body)) == body


class Inner(msgspec.Struct):
    name: str | None = None
    content: dict[str, Any] = {}


class Named(msgspec.Struct):
    texts: list[str] = []
    by_name: dict[str, Inner] = {}
    inner: Inner | None = None
    anything: Any = None


@pytest.mark.parametrize(
    ("body", "good"),
    [
        ({"texts": ["a", "b\0"]}, False),
        ({"by_name": {"a\0": {}}}, False),
        ({"by_name": {"a": {"name": "\0"}}}, False),
        ({"inner": {"name": "\0"}}, False),
        ({"inner": {"content": {"body": "\0"}}, "anything": ["\0"]}, True),
        ({"texts": ["\\\\u0000"]}, True),
    ],
)
def test_u0000_is_no_part_of_a_declared_text(body: Any, good: bool) -> None:
    """API-03: what is kept in columns cannot hold it; the content of events can."""
    raw = msgspec.json.encode(body)
    if good:
        json_decoder(Named)(raw)
    else:
        with pytest.raises(InvalidParam, match=r"U\+0000"):
            json_decoder(Named)(raw)


def test_the_timeouts_have_bounds() -> None:
    assert 0 < ClientTimeouts().stall <= ClientTimeouts().body <= 120
