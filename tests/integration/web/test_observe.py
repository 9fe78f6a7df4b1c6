"""What is said about requests: lines, metrics, health."""

import asyncio
import io
import json

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.runtime.clock import FakeClock
from homeserver.runtime.request_context import add_request_id, current
from homeserver.web.observe import json_line
from homeserver.web.system_api import HealthApi, Impaired, MetricsApi, Unwell
from tests.integration.web.conftest import Client
from tests.integration.web.sample import C, Running, running
from tests.support.raw_http import RawConnection


async def test_a_request_leaves_one_line_without_identifiers_or_tokens(web: Running, ask: Client) -> None:
    path = f"{C}/rooms/!secret:localhost/send/m.x/1?access_token=alice"
    await ask("PUT", path, data=b'{"body": "hello"}')
    (line,) = web.lines
    assert "!secret" not in str(line)
    assert "access_token" not in str(line)
    assert "hello" not in str(line)
    assert line["route"] == "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}"
    assert (line["operation"], line["method"], line["status"], line["errcode"]) == ("send", "PUT", 200, None)
    assert (line["user"], line["received"], line["ip"]) == ("@alice:localhost", 17, "127.0.0.1")
    assert line["sent"] > 0
    assert line["ms"] >= 0


async def test_a_refusal_leaves_its_errcode_and_whom_it_refused(web: Running, ask: Client) -> None:
    await ask("POST", f"{C}/act", token="suspended")
    assert (web.lines[-1]["errcode"], web.lines[-1]["user"]) == ("M_USER_SUSPENDED", "@suspended:localhost")


async def test_the_line_counts_the_queries_of_its_request_alone(web: Running, ask: Client) -> None:
    await asyncio.gather(ask("GET", f"{C}/queries"), ask("GET", f"{C}/echo"))
    assert {line["operation"]: line["db_queries"] for line in web.lines} == {"queries": 2, "echo": 0}


async def test_each_request_has_an_id_of_its_own(web: Running, ask: Client) -> None:
    for _ in range(3):
        await ask("GET", f"{C}/echo")
    assert len({line["request_id"] for line in web.lines}) == 3


def test_a_line_below_a_request_names_it() -> None:
    assert add_request_id(None, "info", {"event": "x"}) == {"event": "x"}
    assert current.get() is None


class Flushed(io.BytesIO):
    """Knows when it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = asyncio.Event()

    @override
    def flush(self) -> None:
        self.flushed.set()


async def test_the_line_can_be_written_as_json_without_structlog() -> None:
    stream, clock = Flushed(), FakeClock(1_700_000_000_123)
    with structlog.contextvars.bound_contextvars(worker=2):
        write = json_line(stream, clock)
    write({"method": "GET", "status": 200})
    await clock.advance(0.9)
    write({"method": "PUT", "status": 200})
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["time"], second["time"]) == ("2023-11-14T22:13:20.123Z", "2023-11-14T22:13:21.023Z")
    assert (first["event"], first["level"], first["worker"], first["status"]) == ("request", "info", 2, 200)
    assert (first["method"], second["method"]) == ("GET", "PUT")


async def test_lines_are_handed_over_soon() -> None:
    stream = Flushed()
    json_line(stream, FakeClock())({"method": "GET"})
    await asyncio.wait_for(stream.flushed.wait(), 60)


async def test_metrics_count_by_operation_never_by_path() -> None:
    figures = CollectorRegistry()

    async def gather() -> Collector:
        return figures

    async with running(extra=(MetricsApi(gather),)) as web, RawConnection(web.url) as connection:
        figures.register(web.metrics)
        for target in (f"{C}/rooms/!a:b/state/m.x", f"{C}/rooms/!c:d/state/m.y", "/nope/1", "/nope/2"):
            await connection.request("GET", target)
        text = (await connection.request("GET", "/metrics")).body.decode()
        assert 'atrium_http_requests_total{method="GET",operation="getState",status="200"} 2.0' in text
        assert 'atrium_http_requests_total{method="GET",operation="unrecognized",status="404"} 2.0' in text
        assert 'atrium_http_request_seconds_bucket{le="+Inf",operation="getState"} 2.0' in text
        assert "atrium_http_requests_in_flight 1.0" in text
        assert "!a:b" not in text


async def test_health_tells_which_part_is_unwell() -> None:
    async def well() -> None:
        return None

    async def gone() -> None:
        raise ConnectionError("database at 10.0.0.1 is gone")

    async def hangs() -> None:
        await asyncio.Event().wait()

    async with running(extra=(HealthApi({"a": well}),)) as web, RawConnection(web.url) as connection:
        answer = await connection.request("GET", "/health")
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok", "checks": {"a": "ok"}})
    unwell = HealthApi({"a": well, "database": gone, "log": hangs}, timeouts=0.05)
    async with running(extra=(unwell,)) as web, RawConnection(web.url) as connection:
        answer = await connection.request("GET", "/health")
        assert answer.status == 503
        checks = {"a": "ok", "database": "ConnectionError", "log": "no answer in time"}
        assert json.loads(answer.body) == {"status": "unwell", "checks": checks}


async def test_health_tells_in_words_what_only_somebody_has_to_look_at() -> None:
    """Requests are worth sending here, so it answers 200."""

    async def well() -> None:
        return None

    async def impaired() -> None:
        raise Impaired("1 of 2 processes do not answer")

    async def full() -> None:
        raise Unwell("no room on the disk")

    async with (
        running(extra=(HealthApi({"a": well, "b": impaired}),)) as web,
        RawConnection(web.url) as connection,
    ):
        answer = await connection.request("GET", "/health")
        checks = {"a": "ok", "b": "1 of 2 processes do not answer"}
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "impaired", "checks": checks})
    async with (
        running(extra=(HealthApi({"b": impaired, "c": full}),)) as web,
        RawConnection(web.url) as connection,
    ):
        answer = await connection.request("GET", "/health")
        assert (answer.status, json.loads(answer.body)["status"]) == (503, "unwell")
        assert json.loads(answer.body)["checks"]["c"] == "no room on the disk"
