"""Compression, streams, pages, and the bytes of an answer."""

import gzip
import json

import pytest

from tests.integration.web.conftest import Client
from tests.integration.web.sample import C, Running
from tests.support.raw_http import ConnectionEndedError, RawConnection

GZIP = {"Accept-Encoding": "gzip, deflate"}


@pytest.mark.parametrize("size", [2_000, 500_000])
async def test_a_large_answer_is_compressed_for_who_accepts_it(ask: Client, size: int) -> None:
    answer = await ask.full("GET", f"{C}/big?size={size}", headers=GZIP)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(answer.body) < size
    assert len(json.loads(gzip.decompress(answer.body))["a"]) == size


@pytest.mark.parametrize("accepted", ["identity", "deflate", "gzip;q=0", "br"])
async def test_who_does_not_accept_gzip_gets_none(ask: Client, accepted: str) -> None:
    answer = await ask.full("GET", f"{C}/big", headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"
    assert len(answer.json["a"]) == 2000


async def test_a_small_answer_is_not_compressed(ask: Client) -> None:
    answer = await ask.full("GET", f"{C}/big?size=10", headers=GZIP)
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("accepted", ["identity", "gzip"])
@pytest.mark.parametrize("pieces", [1, 10, 1000])
async def test_a_streamed_answer_arrives_whole(ask: Client, accepted: str, pieces: int) -> None:
    answer = await ask.full("GET", f"{C}/streamed?pieces={pieces}", headers={"Accept-Encoding": accepted})
    body = gzip.decompress(answer.body) if accepted == "gzip" else answer.body
    assert len(json.loads(body)) == pieces
    assert answer.headers["transfer-encoding"] == "chunked"
    assert ("content-encoding" in answer.headers) == (accepted == "gzip")


async def test_a_stream_that_fails_at_once_is_a_proper_error(ask: Client) -> None:
    status, answer = await ask("GET", f"{C}/streamed?fail_after=0")
    assert (status, answer["errcode"]) == (500, "M_UNKNOWN")


async def test_a_stream_that_fails_half_way_breaks_the_connection_off(web: Running) -> None:
    async with RawConnection(web.url) as connection:
        with pytest.raises(ConnectionEndedError):
            await connection.request("GET", f"{C}/streamed?pieces=1000&fail_after=500")
        assert web.lines[-1]["status"] == 500
        assert (await connection.request("GET", f"{C}/echo")).status == 200


async def test_the_stream_of_a_head_request_is_not_run(web: Running, ask: Client) -> None:
    assert (await ask.full("HEAD", f"{C}/streamed?pieces=1000")).status == 200
    assert len(web.api.pieces) <= 1
    assert web.api.finished.is_set()


async def test_a_file_keeps_its_type_length_and_headers(ask: Client) -> None:
    answer = await ask.full("GET", "/_matrix/media/v3/file", headers=GZIP)
    assert answer.body == b"1234567890"
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["content-disposition"] == "inline; filename=a.png"


async def test_a_page_may_load_nothing_from_elsewhere(ask: Client) -> None:
    answer = await ask.full("GET", f"{C}/page")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_response_carries_its_status_and_headers(ask: Client) -> None:
    answer = await ask.full("GET", f"{C}/teapot")
    assert (answer.status, answer.json, answer.headers["x-thing"]) == (418, {"a": 1}, "x")


async def test_http_1_0_is_spoken(web: Running) -> None:
    async with RawConnection(web.url) as connection:
        answer = await connection.send(f"GET {C}/streamed HTTP/1.0\r\n\r\n".encode())
        assert answer.headers["connection"] == "close"
        assert len(json.loads(answer.body)) == 10
        keep = await connection.send(f"GET {C}/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
        assert keep.headers["connection"] == "keep-alive"


async def test_a_connection_is_kept_for_the_next_request(web: Running) -> None:
    async with RawConnection(web.url) as connection:
        for _ in range(3):
            answer = await connection.request("GET", f"{C}/echo")
            assert "connection" not in answer.headers
            assert answer.headers["date"].endswith("GMT")
