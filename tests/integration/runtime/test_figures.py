"""What Prometheus is told: of one process, and of all whichever is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from homeserver.runtime.clock import FakeClock
from homeserver.runtime.figures import Figures
from tests.support.server import Server
from tests.support.waiting import until

Told = dict[tuple[str, str], float]


def told(text: str) -> Told:
    """(sample, worker) -> value, summed over the other labels."""
    found: Told = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, sample.labels["worker"])
            found[key] = found.get(key, 0) + sample.value
    return found


async def asked(url: str) -> Told:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as reply:
        assert reply.status == 200
        return told(await reply.text())


async def test_one_process_tells_of_itself(server: Server) -> None:
    await (await server.register("alice")).create_room()
    figures = await asked(server.url)
    assert {worker for _, worker in figures} == {"0"}
    assert figures["atrium_http_requests_total", "0"] > 0
    assert figures["atrium_log_position", "0"] > 0
    assert figures["process_resident_memory_bytes", "0"] > 1 << 20


async def test_whichever_is_asked_tells_of_all(two_servers_processes: Server) -> None:
    server = two_servers_processes
    alice = await server.register("alice")

    async def everybody() -> bool:
        await asyncio.gather(*(alice.get("/account/whoami") for _ in range(8)))
        figures = await asked(server.url)
        return all(figures.get(("atrium_http_requests_total", worker), 0) > 0 for worker in "01")

    await until(everybody, within=60)


def one(folder: Path | None, worker: int, clock: FakeClock, count: int) -> Figures:
    figures = Figures(clock, worker=worker, folder=folder)
    registry = CollectorRegistry()
    Counter("done", "What was done", ["how"], registry=registry).labels("well").inc(count)
    figures.register(registry)
    return figures


async def test_a_sibling_that_is_gone_is_told_of_no_more(tmp_path: Path) -> None:
    clock = FakeClock()
    first, second = (one(tmp_path, worker, clock, worker + 1) for worker in (0, 1))
    await second.write()
    (tmp_path / "7.figures").write_bytes(b"nonsense")
    figures = told(generate_latest(first).decode())
    assert (figures["done_total", "0"], figures["done_total", "1"]) == (1, 2)
    second.withdraw()
    assert ("done_total", "1") not in told(generate_latest(first).decode())


async def test_what_a_killed_sibling_left_is_old_soon(tmp_path: Path) -> None:
    clock = FakeClock()
    first, second = (one(tmp_path, worker, clock, 1) for worker in (0, 1))
    await second.write()
    assert ("done_total", "1") in told(generate_latest(first).decode())
    await clock.advance(60)
    assert ("done_total", "1") not in told(generate_latest(first).decode())
