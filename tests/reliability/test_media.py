"""Files survive kills, come out at every process, and are never whole in memory."""

import asyncio
import contextlib
import hashlib
import os
import random
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.process import HomeserverProcess
from tests.support.server import Server

UPLOAD = "/_matrix/media/v3/upload"
DOWNLOAD = "/_matrix/client/v1/media/download/"
KILLS = 5
MIB = 1 << 20


async def register(http: aiohttp.ClientSession, base: str, name: str) -> dict[str, str]:
    body = {"username": name, "password": "x", "auth": {"type": "m.login.dummy"}}
    async with http.post(f"{base}/_matrix/client/v3/register", json=body) as answer:
        token = (await answer.json())["access_token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.reliability
@pytest.mark.slow
async def test_what_was_acknowledged_survives_kills_during_uploads(tmp_path: Path) -> None:
    kept: dict[str, bytes] = {}
    over = False
    with HomeserverProcess(tmp_path / "data") as process:
        await asyncio.to_thread(process.start)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as http:
            head = await register(http, process.base_url, "uploader")

            async def upload(number: int) -> None:
                chance = random.Random(number)
                while not over:
                    data = chance.randbytes(chance.choice([100, 5_000, 700_000]))
                    with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                        async with http.post(process.base_url + UPLOAD, data=data, headers=head) as answer:
                            if answer.status == 200:
                                uri = (await answer.json())["content_uri"]
                                kept[uri] = hashlib.sha256(data).digest()
                                continue
                    await asyncio.sleep(0.05)

            uploaders = [asyncio.create_task(upload(number)) for number in range(6)]
            for _ in range(KILLS):
                await asyncio.sleep(random.uniform(0.5, 1.5))
                process.kill9()
                await asyncio.to_thread(process.start)
            over = True
            await asyncio.gather(*uploaders)
            assert len(kept) > 5 * KILLS
            for uri, digest in kept.items():
                url = process.base_url + DOWNLOAD + uri.removeprefix("mxc://")
                async with http.get(url, headers=head) as answer:
                    assert answer.status == 200, uri
                    assert hashlib.sha256(await answer.read()).digest() == digest


@pytest.mark.slow
async def test_500_files_of_a_megabyte_leave_no_trace_in_memory(tmp_path: Path) -> None:
    with HomeserverProcess(tmp_path / "data") as process:
        await asyncio.to_thread(process.start)
        async with aiohttp.ClientSession() as http:
            head = await register(http, process.base_url, "uploader")
            data = os.urandom(MIB)

            def held() -> int:
                return psutil.Process(process.pid).memory_info().rss + sum(
                    psutil.Process(pid).memory_info().rss for pid in process.worker_pids()
                )

            async def there_and_back(number: int) -> None:
                body = number.to_bytes(4) + data[4:]
                async with http.post(process.base_url + UPLOAD, data=body, headers=head) as answer:
                    uri = (await answer.json())["content_uri"]
                url = process.base_url + DOWNLOAD + uri.removeprefix("mxc://")
                async with http.get(url, headers=head) as answer:
                    assert await answer.read() == body

            async def round_of(first: int, count: int) -> None:
                for start in range(first, first + count, 5):
                    await asyncio.gather(*(there_and_back(start + n) for n in range(5)))

            await round_of(0, 40)
            before, most = held(), 0
            for start in range(1000, 1500, 100):
                await round_of(start, 100)
                most = max(most, held())
            print(f"before {before / MIB:.0f} MiB, at most {most / MIB:.0f} MiB")
            assert most - before < 32 * MIB


async def test_what_one_process_takes_every_process_gives(two_servers_processes: Server) -> None:
    server = two_servers_processes
    alice = await server.register("alice")

    async def ask(method: str, path: str, **options: Any) -> tuple[int, bytes]:
        """Over a connection of its own: to either process."""
        connector = aiohttp.TCPConnector(force_close=True)
        headers = {"Authorization": f"Bearer {alice.token}"}
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.request(method, server.url + path, headers=headers, **options) as answer,
        ):
            return answer.status, await answer.read()

    made = await alice.post("/_matrix/media/v1/create")
    where = made["content_uri"].removeprefix("mxc://")
    waiting = [asyncio.create_task(ask("GET", DOWNLOAD + where)) for _ in range(8)]
    await asyncio.sleep(0.3)
    assert (await ask("PUT", f"/_matrix/media/v3/upload/{where}", data=b"for all"))[0] == 200
    async with asyncio.timeout(60):
        assert set(await asyncio.gather(*waiting)) == {(200, b"for all")}
    data = os.urandom(50_000)
    uris = [await alice.post(UPLOAD, data=data) for _ in range(6)]
    for uri in uris:
        assert await ask("GET", DOWNLOAD + uri["content_uri"].removeprefix("mxc://")) == (200, data)


@pytest.mark.slow
async def test_hostile_files_leave_no_trace_in_memory(tmp_path: Path) -> None:
    """Bombs of every kind, again and again, each with thumbnails asked for: the server grows by nothing, what opens them by no more
    than it may.
    """
    pytest.importorskip("PIL", reason="Pillow is not installed: make install")
    from tests.support import pictures

    bombs = {
        "image/png": await asyncio.to_thread(pictures.png_bomb),
        "image/gif": await asyncio.to_thread(pictures.gif_bomb),
        "image/webp": await asyncio.to_thread(pictures.webp_bomb),
        "image/tiff": await asyncio.to_thread(pictures.tiff_bomb),
        "image/svg+xml": pictures.SVG_BOMB,
        "image/jpeg": os.urandom(200_000),
    }
    with HomeserverProcess(tmp_path / "data") as process:
        await asyncio.to_thread(process.start)
        async with aiohttp.ClientSession() as http:
            head = await register(http, process.base_url, "uploader")

            def held() -> tuple[int, int]:
                """Bytes that the server holds, and those that open files for it."""
                sizes = [0, 0]
                for pid in (process.pid, *process.worker_pids()):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each = psutil.Process(pid)
                        sizes["sandbox" in " ".join(each.cmdline())] += each.memory_info().rss
                return sizes[0], sizes[1]

            async def throw(kind: str, data: bytes, number: int) -> None:
                body = data + number.to_bytes(4)
                headers = {**head, "Content-Type": kind}
                async with http.post(process.base_url + UPLOAD, data=body, headers=headers) as answer:
                    uri = (await answer.json())["content_uri"].removeprefix("mxc://")
                url = f"{process.base_url}/_matrix/client/v1/media/thumbnail/{uri}?width=320&height=240"
                async with http.get(url, headers=head) as answer:
                    assert answer.status in {400, 413, 429, 503}

            async def round_of(number: int) -> None:
                await asyncio.gather(*(throw(kind, data, number) for kind, data in bombs.items()))

            await round_of(0)
            (before, _), most, sandbox = held(), 0, 0
            for number in range(1, 9):
                await round_of(number)
                now, opening = held()
                most, sandbox = max(most, now), max(sandbox, opening)
            print(
                f"before {before / MIB:.0f} MiB, at most {most / MIB:.0f} MiB, {sandbox / MIB:.0f} MiB in processes that open files"
            )
            assert most - before < 48 * MIB
            assert sandbox < 2_300 * MIB, "two processes of a gibibyte each"
