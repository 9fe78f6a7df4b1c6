"""Background work of the whole server: nothing in it ends the server, and everything is seen from outside."""

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from homeserver.app import App
from homeserver.matrix.ids import ServerName
from homeserver.runtime.periodic import PeriodicRunner
from tests.conftest import StartServer
from tests.support.server import Server
from tests.support.waiting import until


async def figures(server: Server) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/metrics") as answer:
        return await answer.text()


async def health(server: Server) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/health") as answer:
        return dict(await answer.json())


def app_of(server: Server) -> App:
    assert server.app is not None
    return server.app


async def test_a_server_that_has_stopped_may_be_told_again(fresh_server: Server) -> None:
    app = app_of(fresh_server)
    app.features.federation.backoff.failed(ServerName("away.example"), "does not answer")
    await app.stop()
    await app.stop()


async def test_what_runs_in_the_background_is_declared_and_counted(fresh_server: Server) -> None:
    app = app_of(fresh_server)
    once = {item.name for item in app.periodic._items if item.once_in_cluster}
    assert once >= {"log.forgetting", "graph.upkeep", "accounts.housekeeping", "to_device.bound"}

    async def has_run() -> bool:
        return 'atrium_periodic_last_success_seconds{name="typing",worker="0"}' in await figures(fresh_server)

    await until(has_run)
    text = await figures(fresh_server)
    assert 'atrium_loop_up{name="log.writer",worker="0"} 1.0' in text
    assert 'atrium_jobs_running{worker="0"} 0.0' in text
    assert (await health(fresh_server))["checks"]["loops"] == "ok"


async def test_no_declared_work_that_fails_each_time_ends_the_server(start_server: StartServer) -> None:
    server = await start_server()
    app = app_of(server)

    async def fail() -> None:
        raise KeyError("a fault")

    await app.periodic.stop()
    items = [replace(item, call=fail, interval=0.05, first=0) for item in app.periodic._items]
    app.periodic = PeriodicRunner(items, app.core.db, app.clock, app.entropy)
    over = asyncio.create_task(app.failed())
    app.periodic.start()

    async def all_have_failed() -> bool:
        return all(app.periodic.figures(item.name).failed >= 2 for item in items)

    await until(all_have_failed, within=60)
    alice = await server.register("alice")
    await alice.get("/sync")
    assert not over.done()
    over.cancel()


class FaultyEvent(asyncio.Event):
    """Waiting for it fails twice."""

    faults = 2

    async def wait(self) -> Any:
        if self.faults:
            self.faults -= 1
            raise ValueError("a fault")
        return await super().wait()


async def test_an_exception_in_a_permanent_loop_restarts_it(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    app = app_of(server)
    alice = await server.register("alice")
    room = (await alice.post("/createRoom", json={}))["room_id"]
    event, waits_for = FaultyEvent(), app.core.log._wake
    monkeypatch.setattr(app.core.log, "_wake", event)
    waits_for.set()  # the writer comes to wait anew

    async def has_failed() -> bool:
        return event.faults == 0

    await until(has_failed)
    await alice.put("/rooms/{}/send/m.room.message/1", room, json={"msgtype": "m.text", "body": "still here"})
    assert (await health(server))["status"] == "ok"

    async def restarted() -> bool:
        return 'atrium_loop_restarts_total{name="log.writer",worker="0"} 2.0' in await figures(server)

    await until(restarted)
