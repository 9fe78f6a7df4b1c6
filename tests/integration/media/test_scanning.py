"""Harmful files are given to nobody: with a clamd of the tests, and with ClamAV's own where it is installed."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.integration.media.conftest import DOWNLOAD, parts, upload
from tests.support import clamd as support_clamd
from tests.support.clamd import EICAR, FakeClamd
from tests.support.waiting import until


@pytest.fixture
async def clamd() -> AsyncIterator[FakeClamd]:
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket has to be short
        async with support_clamd.running(Path(folder) / "clamd") as running:
            yield running


async def test_an_infected_upload_is_refused_in_words(start_server: StartServer, clamd: FakeClamd) -> None:
    server = await start_server(media={"scanner": {"address": str(clamd.path)}})
    alice = await server.register("alice")
    answer = await alice.exchange("POST", "/_matrix/media/v3/upload", data=EICAR, expect=(403, "M_FORBIDDEN"))
    assert "Eicar-Signature" in answer.json["error"]
    clean = await upload(alice, b"clean" * 100_000)
    assert await alice.get(DOWNLOAD, *parts(clean)) == b"clean" * 100_000
    assert clamd.scanned == 2
    pending = parts((await alice.post("/_matrix/media/v1/create"))["content_uri"])
    await alice.put("/_matrix/media/v3/upload/{}/{}", *pending, data=EICAR, expect=(403, "M_FORBIDDEN"))
    await alice.get(DOWNLOAD, *pending, expect=(403, "M_FORBIDDEN"))
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        rows = await tx.all("SELECT quarantined_by FROM media WHERE quarantined_by IS NOT NULL")
    assert rows == [("scanner",)] * 2


async def test_what_was_not_scanned_is_scanned_before_it_is_delivered(
    start_server: StartServer, clamd: FakeClamd
) -> None:
    server = await start_server(media={"scanner": {"address": str(clamd.path)}})
    alice = await server.register("alice")
    clamd.away = True
    bad, good = await upload(alice, EICAR), await upload(alice, b"good")
    for uri in (bad, good):
        await alice.get(DOWNLOAD, *parts(uri), expect=503)
    clamd.away = False
    for _ in range(2):
        await alice.get(DOWNLOAD, *parts(bad), expect=(403, "M_FORBIDDEN"))
        assert await alice.get(DOWNLOAD, *parts(good)) == b"good"
    assert clamd.scanned == 2


async def test_what_the_scanner_does_not_take(start_server: StartServer, clamd: FakeClamd) -> None:
    clamd.most = 1000
    for told, status in (("refuse", 503), ("deliver", 200)):
        server = await start_server(media={"scanner": {"address": str(clamd.path), "too_large": told}})
        alice = await server.register("alice")
        uri = await upload(alice, os.urandom(400_000))
        await alice.get(DOWNLOAD, *parts(uri), expect=status)


@pytest.mark.skipif(shutil.which("clamd") is None, reason="clamd is not installed: apt install clamav-daemon")
async def test_clamav_itself(start_server: StartServer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        socket, database = Path(folder) / "s", Path(folder) / "db"
        database.mkdir()
        (database / "test.ndb").write_text(f"Eicar-Test:0:*:{EICAR.hex()}\n")
        config = Path(folder) / "clamd.conf"
        config.write_text(
            f"LocalSocket {socket}\nDatabaseDirectory {database}\nForeground yes\nStreamMaxLength 256K\n"
        )
        process = await asyncio.create_subprocess_exec(
            "clamd", "--config-file", str(config), stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await until(lambda: asyncio.to_thread(socket.exists), within=60)
            server = await start_server(media={"scanner": {"address": str(socket)}})
            alice = await server.register("alice")
            await upload(alice, EICAR, expect=(403, "M_FORBIDDEN"))
            uri = await upload(alice, b"clean")
            assert await alice.get(DOWNLOAD, *parts(uri)) == b"clean"
            large = await upload(alice, os.urandom(900_000))
            await alice.get(DOWNLOAD, *parts(large), expect=503)
        finally:
            process.terminate()
            await process.wait()
