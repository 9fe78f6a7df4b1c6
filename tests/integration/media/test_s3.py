"""Blobs in a store that speaks S3: moto's server from PyPI, or the one that ATRIUM_TEST_S3 names (http://key:secret@host:port)."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from homeserver.media.ports import BlobMissing, BlobStoreAway
from tests.conftest import StartServer
from tests.integration.media.conftest import DOWNLOAD, THUMBNAIL, parts, upload
from tests.support.process import free_port
from tests.support.server import Server
from tests.support.waiting import until

pytest.importorskip("obstore", reason="obstore is not installed: pip install atrium-homeserver[s3]")

NO_SERVER = "no S3 server: pip install 'moto[server]', or name one in ATRIUM_TEST_S3"


@pytest.fixture(scope="module")
async def store() -> AsyncIterator[dict[str, Any]]:
    """The configuration of a bucket."""
    if given := os.environ.get("ATRIUM_TEST_S3"):
        url = urlsplit(given)
        keys = {"access_key": url.username, "secret_key": url.password}
        yield {"endpoint": f"{url.scheme}://{url.hostname}:{url.port}", "bucket": "atrium-tests", **keys}
        return
    if (program := shutil.which("moto_server")) is None:
        pytest.skip(NO_SERVER)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, "-H", "127.0.0.1", "-p", str(port),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    endpoint = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:

            async def made() -> bool:
                try:
                    async with session.put(f"{endpoint}/atrium-tests") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await until(made, within=60)
        yield {"endpoint": endpoint, "bucket": "atrium-tests", "access_key": "a", "secret_key": "b"}
    finally:
        process.kill()
        await process.wait()


async def keys_of(server: Server) -> list[str]:
    assert server.app is not None
    return [each.key async for page in server.app.features.media.blobs.keys() for each in page]  # noqa: SIM118  # no dict


async def test_files_lie_in_a_bucket(start_server: StartServer, store: dict[str, Any]) -> None:
    server = await start_server(media={"s3": {**store, "prefix": "one/"}})
    assert server.app is not None
    alice = await server.register("alice")
    data = os.urandom(900_000)
    uri, again = await upload(alice, data), await upload(alice, data)
    assert await alice.get(DOWNLOAD, *parts(uri)) == data
    part = await alice.exchange(
        "GET", DOWNLOAD, *parts(uri), headers={"Range": "bytes=300000-300009"}, expect=206
    )
    assert part.body == data[300_000:300_010]
    assert len(await keys_of(server)) == 1
    empty = await upload(alice, b"")
    assert await alice.get(DOWNLOAD, *parts(empty)) == b""
    content = server.app.config.server.data_dir / "media"
    assert not [path for path in content.rglob("*") if path.is_file()]
    feature = server.app.features.media
    for each in (uri, again, empty):
        found = await feature.admin.info(_mxc(each))
        await feature.keeping.remove([found.media_nid])

    async def nothing_there() -> bool:
        return not await keys_of(server)

    await until(nothing_there)


async def test_thumbnails_of_files_in_a_bucket(start_server: StartServer, store: dict[str, Any]) -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed: make install")
    from tests.support import pictures

    server = await start_server(media={"s3": {**store, "prefix": "two/"}})
    alice = await server.register("alice")
    uri = await upload(alice, pictures.picture("PNG", (900, 600)), "image/png")
    small = await alice.get(THUMBNAIL, *parts(uri), params={"width": 320, "height": 240})
    assert pictures.opened(small).size == (320, 213)
    assert len(await keys_of(server)) == 2


async def test_large_files_and_orphans(
    start_server: StartServer, store: dict[str, Any], tmp_path: Path
) -> None:
    server = await start_server(media={"s3": {**store, "prefix": "three/"}})
    assert server.app is not None
    feature = server.app.features.media
    large = tmp_path / "large"
    data = os.urandom(20 << 20)  # several parts
    await asyncio.to_thread(large.write_bytes, data)
    await feature.blobs.put(large, "large.x")
    assert b"".join([piece async for piece in feature.blobs.read("large.x", 0, len(data))]) == data
    assert await feature.upkeep.reconcile() == 0  # it is young
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("homeserver.media.upkeep.ORPHAN_AGE", -10.0)
        assert await feature.upkeep.reconcile() == 1
    with pytest.raises(BlobMissing):
        await anext(feature.blobs.read("large.x", 0, 1))
    await feature.blobs.delete("large.x")


async def test_a_store_that_is_away(start_server: StartServer) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    bucket = {"endpoint": endpoint, "bucket": "none", "access_key": "a", "secret_key": "b"}
    server = await start_server(media={"s3": bucket})
    assert server.app is not None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server.app.features.media.blobs, "put", _away)
        alice = await server.register("alice")
        await upload(alice, b"x", expect=503)
    async with server.app.core.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM media") == 0


async def _away(*_: object) -> None:
    raise BlobStoreAway("the object store fails")


def _mxc(uri: str) -> Any:
    from homeserver.matrix import mxc

    return mxc.parse(uri)
