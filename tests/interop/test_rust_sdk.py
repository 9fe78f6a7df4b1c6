"""matrix-rust-sdk, the engine of Element X: whole clients (SyncService, RoomListService, Timeline) on a whole server.

Run by hand, for its build takes minutes and 2 GB: `ATRIUM_RUST_PLAYS` names the built program, or is `cargo` to build it here
(`rust/README.md`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typing_extensions import override

from tests.interop.plays import CACHE, Answer, Asked, Play
from tests.support.process import ConfiguredProcess, HomeserverProcess

pytestmark = pytest.mark.interop

SOURCES = Path(__file__).parent / "rust"
BUILD_SECONDS = 3_600


@pytest.fixture(scope="module")
def program() -> Path:
    """The built plays."""
    named = os.environ.get("ATRIUM_RUST_PLAYS")
    if not named:
        pytest.skip("ATRIUM_RUST_PLAYS names no program and is not cargo (tests/interop/rust/README.md)")
    if named != "cargo":
        return Path(named).resolve()
    cargo = shutil.which("cargo")
    assert cargo is not None, "cargo is not installed"
    target = CACHE / "rust"
    command = [cargo, "build", "--locked", "--target-dir", str(target)]
    done = subprocess.run(
        command, cwd=SOURCES, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return target / "debug" / "atrium-rust-plays"


class RustPlay(Play):
    """A play of the built program."""

    def __init__(
        self, program: Path, name: str, base_url: str, scratch: Path, answers: Mapping[str, Answer] | None = None
    ) -> None:  # fmt: skip
        super().__init__(name, base_url, scratch, answers or {})
        self._program = program
        self._scratch = scratch
        self.environment |= {"SCRATCH": str(scratch)}

    @override
    def prepare(self) -> Path:
        return self._scratch

    @override
    def command(self) -> list[str]:
        return [str(self._program), self.name]


def unknown_positions(server: HomeserverProcess) -> int:
    """How often a client was told that the position of its sync is unknown, by the server's log."""
    return server.output.read_text(errors="replace").count('"errcode":"M_UNKNOWN_POS"')


@pytest.mark.parametrize(
    ("name", "end"),
    [
        pytest.param("rooms", "invitations are shown, refused and accepted", id="rooms"),
        pytest.param("away", "and goes on live", id="away"),
        pytest.param(
            "encryption",
            "after 60 encrypted words while away, each is readable, once, in order",
            id="encryption",
        ),
        pytest.param("conversation", "the other's new name", id="conversation"),
        pytest.param("push", "an invitation", id="push"),
        pytest.param("places", "a preview, a knock and its acceptance", id="places"),
        pytest.param("call", "and does not when it is cancelled", id="call"),
    ],
)
async def test_a_play(name: str, end: str, program: Path, base_url: str, tmp_path: Path) -> None:
    play = RustPlay(program, name, base_url, tmp_path)
    await play.run(seconds=400)
    print("\n".join(play.seen))
    assert play.seen[-1] == end


@pytest.mark.parametrize(("name", "sees"), [("restart", 3), ("many", 6)])
async def test_the_server_is_restarted_and_killed_meanwhile(
    name: str, sees: int, program: Path, database: str, tmp_path: Path
) -> None:
    """Connections of sliding sync outlive the server's processes. Once they are lost, as those left for a month."""
    processes = int(os.environ.get("ATRIUM_TEST_PROCESSES", "1"))
    unlimited = {"enabled": False}
    with ConfiguredProcess(tmp_path / "data", database, processes=processes, rate_limits=unlimited) as server:

        async def restart(_: Asked) -> Mapping[str, Any]:
            await asyncio.to_thread(server.restart)
            return {}

        async def kill(_: Asked) -> Mapping[str, Any]:
            server.kill9()
            await asyncio.to_thread(server.start)
            return {}

        async def forget(_: Asked) -> Mapping[str, Any]:
            assert unknown_positions(server) == 0
            await asyncio.to_thread(server.terminate)
            async with await psycopg.AsyncConnection.connect(database) as connection:
                await connection.execute("DELETE FROM sliding_connections")
            await asyncio.to_thread(server.start)
            return {}

        await asyncio.to_thread(server.start)
        answers: dict[str, Answer] = {"restart": restart, "kill": kill, "forget": forget}
        play = RustPlay(program, name, server.base_url, tmp_path, answers)
        await play.run(seconds=400)
        print("\n".join(play.seen))
        assert len(play.seen) == sees
        assert unknown_positions(server) > 0
