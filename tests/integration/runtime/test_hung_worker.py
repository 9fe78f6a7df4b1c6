"""A worker that hangs is replaced, whatever it hangs in; one that has only not had its turn is not."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from homeserver.config import dev_config
from homeserver.runtime.liveness import HangLimits, UnansweredTime
from homeserver.runtime.worker import Order
from homeserver.runtime.workers import Starting, Workers
from tests.support.process import HomeserverProcess
from tests.support.waiting import until, until_sync

SHORT = HangLimits(standing=1.0, computing=1.0, waiting=20.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hung") / "data"


@pytest.fixture
def two(data: Path) -> Iterator[HomeserverProcess]:
    with HomeserverProcess(data, processes=2) as server:
        server.start()
        until_sync(server.all_listen, 60)
        yield server


def health(server: HomeserverProcess, seconds: float = 1.0) -> dict[str, object] | None:
    """By a new connection; None: whoever got it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=seconds)
    try:
        connection.request("GET", "/health")
        answer: dict[str, object] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException):
        return None
    else:
        return answer
    finally:
        connection.close()


def test_workers_that_hang_are_told_of_and_replaced_one_or_all_at_once(two: HomeserverProcess) -> None:
    first, second = two.worker_pids()
    os.kill(first, signal.SIGSTOP)

    def told() -> bool:
        found = health(two) or {}
        checks = cast("dict[str, str]", found.get("checks", {}))
        return (found.get("status"), checks.get("processes")) == (
            "impaired",
            "1 of 2 processes do not answer",
        )

    until_sync(told, 60)
    until_sync(lambda: first not in two.worker_pids() and len(two.worker_pids()) == 2, 60)
    assert second in two.worker_pids()
    until_sync(lambda: (health(two) or {}).get("status") == "ok", 60)
    assert all(health(two, 10) for _ in range(30))

    both = two.worker_pids()
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    until_sync(lambda: not set(both) & set(two.worker_pids()), 60)
    until_sync(lambda: (health(two) or {}).get("status") == "ok", 60)
    assert "worker_hangs" in two.output_since_start()
    assert two.terminate() == 0


def test_one_that_stood_still_for_a_moment_is_left_alone(two: HomeserverProcess) -> None:
    pids = two.worker_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(4)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    until_sync(lambda: (health(two) or {}).get("status") == "ok", 60)
    assert two.worker_pids() == pids


@pytest.mark.slow
def test_that_the_process_above_hangs_is_told(two: HomeserverProcess) -> None:
    os.kill(two.pid, signal.SIGSTOP)
    try:
        words = "the process that starts the others does not answer"
        until_sync(lambda: words in str(health(two, 5)), 60)
    finally:
        os.kill(two.pid, signal.SIGCONT)
    until_sync(lambda: (health(two) or {}).get("status") == "ok", 60)
    assert "worker_hangs" not in two.output_since_start()


@pytest.mark.parametrize("hanging", ["time.sleep(600)", "while True: pass"])
async def test_one_that_hangs_while_it_starts_is_replaced(tmp_path: Path, hanging: str) -> None:
    started = tmp_path / "started"
    code = f"import time\nwith open({str(started)!r}, 'a') as file: file.write('once')\n{hanging}"
    config = dev_config(port=0, address="127.0.0.1", data=tmp_path, server_name="localhost", processes=1)
    starting = Starting(
        Order(config, worker=-1, parent=os.getpid()),
        (sys.executable, "-c", code),
        lambda: UnansweredTime(SHORT, SHORT),
    )
    running = asyncio.ensure_future(Workers(starting, lambda: None).run())
    try:
        await asyncio.to_thread(
            until_sync, lambda: started.exists() and started.read_text().count("once") >= 3, 60
        )
        assert not running.done()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)


async def test_one_that_is_told_to_reload_while_it_starts_is_told_so_once_it_serves(tmp_path: Path) -> None:
    """By itself the signal ends a process: one that had been started again just then died of it."""
    begun, told = tmp_path / "begun", tmp_path / "told"
    code = (
        "import signal, sys, time\n"
        f"open({str(begun)!r}, 'a').write('once ')\n"
        "time.sleep(1.5)\n"
        f"signal.signal(signal.SIGHUP, lambda *_: open({str(told)!r}, 'a').write('once '))\n"
        "sys.stdout.write('ready\\n')\nsys.stdout.flush()\n"
        "while sys.stdin.readline(): sys.stdout.write('alive\\n'); sys.stdout.flush()\n"
    )
    config = dev_config(port=0, address="127.0.0.1", data=tmp_path, server_name="localhost", processes=1)
    starting = Starting(Order(config, worker=-1, parent=os.getpid()), (sys.executable, "-c", code))
    running = asyncio.ensure_future(Workers(starting, lambda: None).run())
    try:
        await asyncio.to_thread(until_sync, begun.exists, 60)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.to_thread(until_sync, told.exists, 60)
        assert (begun.read_text(), told.read_text()) == ("once ", "once ")
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)


async def test_one_that_dies_before_it_is_told_anything_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as soon as it is there, for want of memory say: its pipe is closed when it is to be told what to do."""
    config = dev_config(port=0, address="127.0.0.1", data=tmp_path, server_name="localhost", processes=1)
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    starting = Starting(Order(config, worker=-1, parent=os.getpid()), (sys.executable, "-c", code))
    real, started = asyncio.create_subprocess_exec, 0

    class Closed:
        def write(self, data: bytes) -> None:
            del data
            raise RuntimeError("unable to perform operation; the handler is closed")  # as uvloop says

    async def start(*command: str, **more: Any) -> asyncio.subprocess.Process:
        nonlocal started
        process = await real(*command, **more)
        await process.wait()
        started += 1
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()
        process.stdin = cast("asyncio.StreamWriter", Closed())
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    running = asyncio.ensure_future(Workers(starting, lambda: None).run())
    try:

        async def again() -> bool:
            return started >= 2 or running.done()

        await until(again, within=60)
        assert not running.done()
    finally:
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
