"""Reading a body: what is refused, and what looking for it costs."""

import json
import time
from typing import Any

import msgspec
import pytest

from homeserver.matrix.errors import BadJson, InvalidParam
from homeserver.web.body import REMEMBERED, REMEMBERED_BYTES, json_decoder, remembering

TRIES = 8


class Inner(msgspec.Struct):
    name: str
    many: list[str] = []
    content: dict[str, Any] = {}


class Body(msgspec.Struct):
    text: str = ""
    either: str | list[str] | Inner | None = None
    inner: list[Inner] = []
    table: dict[str, dict[str, str]] = {}
    lists: dict[str, list[str]] = {}
    unset: str | msgspec.UnsetType = msgspec.UNSET
    unset_list: list[str] | msgspec.UnsetType = msgspec.UNSET
    anything: Any = None
    open: dict[str, Any] = {}


@pytest.mark.parametrize(
    "value",
    [
        {"text": "\0"},
        {"unset": "\0"},
        {"unset_list": ["", "\0"]},
        {"either": "a\0"},
        {"either": ["a", "\0"]},
        {"either": {"name": "\0"}},
        {"inner": [{"name": "a"}, {"name": "b", "many": ["", "\0b"]}]},
        {"table": {"a": {}, "b": {"c": "\0"}}},
        {"table": {"a": {}, "b": {"\0": "c"}}},
        {"table": {"\0": {}}},
        {"lists": {"a": [], "b": ["c", "\0"]}},
    ],
)
def test_a_declared_text_has_no_null(value: Any) -> None:
    with pytest.raises(InvalidParam, match=r"U\+0000"):
        json_decoder(Body)(json.dumps(value).encode())


@pytest.mark.parametrize(
    "value",
    [
        {"anything": ["\0"]},
        {"open": {"\0": "\0"}},
        {"inner": [{"name": "a", "content": {"\0": "\0"}}]},
        {"text": "\\u0000"},
        {"either": None, "text": "\\\\", "lists": {"a": ["\\u0000"]}},
    ],
)
def test_what_is_the_clients_own_may_have_it(value: Any) -> None:
    assert json_decoder(Body)(json.dumps(value).encode()) == msgspec.convert(value, Body)


@pytest.mark.parametrize(
    "body",
    [
        {"lists": {f"@{number}:localhost": [] for number in range(49_000)}},
        {"table": {f"@{number}:localhost": {"a": "a"} for number in range(33_000)}},
        {"inner": [{"name": "a", "many": ["b"]}] * 20_000},
        {"open": {"a": ['\\"' * 200_000, [[["["]]] * 15_000]}},
    ],
    ids=["lists", "table", "inner", "brackets"],
)
def test_looking_at_a_body_costs_little_more_than_decoding_it(body: dict[str, Any]) -> None:
    raw = json.dumps({**body, "anything": "\0"}).encode()
    read, decode = json_decoder(Body), msgspec.json.Decoder(Body).decode
    # In turns: a machine that is half as fast for a while is so for both.
    looking, decoding = zip(*((_cpu(read, raw), _cpu(decode, raw)) for _ in range(TRIES)), strict=True)
    assert min(looking) < 3.5 * min(decoding)


def test_nesting_is_bounded() -> None:
    text = '{"anything":' + "[" * 101 + "]" * 101 + "}"
    with pytest.raises(BadJson, match="levels"):
        json_decoder(Body)(text.encode())


def _cpu(call: Any, raw: bytes) -> float:
    began = time.thread_time()
    call(raw)
    return time.thread_time() - began


def test_what_is_sent_again_and_again_is_read_once() -> None:
    read = remembering(json_decoder(Body))
    assert read(b'{"text":"a"}') is read(bytes(bytearray(b'{"text":"a"}')))
    assert read(b'{"text":"a"}') != read(b'{"text":"b"}')
    for _ in range(2):  # a refusal is none the less one the second time
        with pytest.raises(InvalidParam):
            read(b'{"text":"\\u0000"}')


def test_only_so_much_of_bodies_is_remembered() -> None:
    read = remembering(json_decoder(Body))
    large = json.dumps({"text": "a" * REMEMBERED_BYTES}).encode()
    assert read(large) is not read(large)
    first = read(b'{"text":"first"}')
    for number in range(REMEMBERED):
        read(json.dumps({"text": str(number)}).encode())
    assert read(b'{"text":"first"}') is not first
