"""What this server takes for granted of aiohttp's parser: a version that behaves differently fails here (decision 11)."""

import ast
import asyncio
import gzip
from pathlib import Path

import pytest
from aiohttp.http import HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy

import homeserver.web
from homeserver.web import limits
from homeserver.web.http_parser import (
    BODY_ERRORS,
    HTTP_1_0,
    NO_BODY,
    NotHttp,
    RequestBody,
    RequestHead,
    RequestParser,
    content_length,
)

GET = b"GET /a?b=%20c HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


class Flow:
    """A connection, as bodies see it."""

    connected = True

    def __init__(self) -> None:
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self, resume_parser: bool = True) -> None:
        self.paused = False


class Fed:
    """A parser, and everything that came out of it."""

    def __init__(self) -> None:
        self.flow = Flow()
        self.parser = RequestParser(self.flow, asyncio.get_running_loop())
        self.found: list[tuple[RequestHead, RequestBody]] = []

    def __call__(self, *parts: bytes) -> list[tuple[RequestHead, RequestBody]]:
        for part in parts:
            self.found += self.parser.feed(part)
        return self.found


@pytest.fixture
async def feed() -> Fed:
    return Fed()


def test_the_parser_is_the_one_in_c() -> None:
    assert HttpRequestParser.__module__ == "aiohttp._http_parser"


def test_nothing_else_on_the_serving_side_uses_aiohttp() -> None:
    """But for names of header fields and the type of a version. `outbound.py` is aiohttp's client."""
    for path in sorted(Path(homeserver.web.__file__).parent.glob("*.py")):
        if path.name in {"http_parser.py", "outbound.py"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp"):
                assert {name.name for name in node.names} <= {"hdrs", "HttpVersion"}, path.name
            elif isinstance(node, ast.Import):
                assert not any(name.name.startswith("aiohttp") for name in node.names), path.name


async def test_a_head_tells_method_target_version_and_fields(feed: Fed) -> None:
    [(head, body)] = feed(
        b"GET /a%2Fb?c=%ff#d HTTP/1.0\r\nX-A: 1\r\nx-a: 2\r\nConnection: keep-alive\r\n\r\n"
    )
    assert (head.method, head.path, head.version) == ("GET", "/a%2Fb?c=%ff#d", HTTP_1_0)
    assert feed.parser.headers(head).getall("X-a") == ["1", "2"]
    assert not head.should_close
    assert body is NO_BODY
    assert body.is_eof()
    assert body.at_eof()


async def test_requests_come_one_for_each_call(feed: Fed) -> None:
    assert len(feed(GET * 3)) == 1
    assert len(feed(b"")) == 2
    assert len(feed(GET)) == 3, "what was kept comes before what has come"
    assert len(feed(b"", b"", b"")) == 4


async def test_a_whole_request_is_there_although_what_follows_is_none(feed: Fed) -> None:
    assert len(feed(GET + b"BROKEN\r\n\r\n")) == 1
    with pytest.raises(NotHttp):
        feed(b"")
    assert feed.parser.ended
    assert len(feed(GET)) == 1, "after it there is nothing any more"


async def test_a_request_in_single_bytes_is_whole_with_the_last(feed: Fed) -> None:
    assert not feed(*(bytes([byte]) for byte in GET[:-1]))
    assert len(feed(GET[-1:])) == 1


async def test_a_body_is_as_sent_but_for_its_framing(feed: Fed) -> None:
    packed = gzip.compress(b"{}")
    head = POST + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    [(_, body)] = feed(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed))
    assert body.is_eof()
    assert not body.at_eof()
    assert body.read_nowait() == packed
    assert body.at_eof()


async def test_a_body_that_nobody_reads_pauses_and_goes_on(feed: Fed) -> None:
    size = limits.READ_BUFFER * 4
    [(_, body)] = feed(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * (limits.READ_BUFFER * 2 + 1))
    assert feed.flow.paused
    feed.parser.pause()
    feed(b"x" * (size - limits.READ_BUFFER * 2 - 1))
    read = await body.readany()
    assert not feed.flow.paused
    feed(b"")
    while not body.at_eof():
        read += await body.readany()
    assert read == b"x" * size


async def test_a_broken_body_is_told_to_who_reads_it(feed: Fed) -> None:
    [(_, body)] = feed(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    with pytest.raises(NotHttp):
        feed(b"nonsense\r\n")
    assert isinstance(body.exception(), (type(None), *BODY_ERRORS))


async def test_another_protocol_ends_the_reading(feed: Fed) -> None:
    feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello", b"")
    assert len(feed.found) == 1
    assert feed.parser.ended


@pytest.mark.parametrize(
    "message",
    [
        POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        POST + b"Content-Length: +1\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (limits.MAX_HEADER_FIELD + 1) + b"\r\n\r\n",
        b"GET /" + b"x" * limits.MAX_REQUEST_LINE + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * limits.MAX_HEADERS + b"\r\n",
    ],
)
async def test_what_is_ambiguous_or_too_large_is_no_http(feed: Fed, message: bytes) -> None:
    with pytest.raises(NotHttp):
        feed(message)


async def test_header_fields_can_be_encoded_whatever_was_sent(feed: Fed) -> None:
    """RFC 9110, 5.5. Lone surrogates, which stand for such bytes, cannot be stored by any database."""
    sent = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe\r\nX: \xc3\xbc\r\nX: \xed\xa0\x80\r\n\r\n"
    [(head, _)] = feed(sent[:40], sent[40:])
    headers = feed.parser.headers(head)
    assert headers["User-Agent"] == "\ufffd\ufffd"
    assert headers.getall("X") == ["ü", "\ufffd\ufffd\ufffd"]
    feed(GET)
    assert feed.parser.headers(feed.found[1][0])["Host"] == "a"


@pytest.mark.parametrize(
    ("sent", "length"),
    [("0", 0), ("12", 12), ("0" * 5_000 + "12", 12), ("0" * 5_000, 0), ("9223372036854775807", 2**63 - 1)],
)
def test_a_length_is_read_however_many_zeros_it_begins_with(sent: str, length: int) -> None:
    assert content_length(CIMultiDictProxy(CIMultiDict({"Content-Length": sent}))) == length
