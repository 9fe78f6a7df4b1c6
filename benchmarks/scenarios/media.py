"""Files: uploading, downloading, and thumbnails beside a /sync."""

from __future__ import annotations

import asyncio
import itertools
import os
import struct
import time
import zlib
from functools import partial

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.reader import Reader
from benchmarks.scenario import Scenario, keep_busy
from benchmarks.wire import RequestFailed, Response
from benchmarks.worlds import many_rooms

MIB = 1 << 20
SIDE = 2000
_numbers = itertools.count()


class UploadFiles(Scenario):
    """4 people at once upload files of a megabyte, none of them twice."""

    name = "upload-file"
    title = "Upload 1 MB"
    operation = "upload"

    @override
    async def prepare(self) -> None:
        self.data = os.urandom(MIB)
        self.people = await self.stage.people(4, "uploader")

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(meter, [partial(self._upload, person) for person in self.people])

    async def _upload(self, person: Person) -> Response:
        body = os.urandom(16) + self.data[16:]
        return await person.connection.succeed(uploading(person, body, "application/octet-stream"))


class DownloadFiles(Scenario):
    """4 people at once download files of a megabyte."""

    name = "download-file"
    title = "Download 1 MB"
    operation = "download"

    @override
    async def prepare(self) -> None:
        self.people = await self.stage.people(4, "downloader")
        self.files = [
            await upload(person, os.urandom(MIB), "application/octet-stream") for person in self.people
        ]

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(
            meter,
            [partial(self._download, *pair) for pair in zip(self.people, self.files, strict=True)],
        )

    async def _download(self, person: Person, file: str) -> Response:
        path = f"/_matrix/client/v1/media/download/{file}"
        response = await person.connection.succeed(person.target.request("GET", path, token=person.token))
        if len(response.body) != MIB:
            raise RequestFailed(f"a file of {len(response.body)} bytes")
        return response


class ThumbnailStorm(Scenario):
    """/sync of somebody in 200 rooms while four others ask for ever new thumbnails of a large picture; only /sync is measured."""

    name = "thumbnail-storm"
    title = "Idle sync beside a thumbnail storm"
    operation = "sync"

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(many_rooms)
        self.reader = await Reader.begin(world.members[0].another_connection())
        self.people = await self.stage.people(4, "looker")
        self.file = await upload(self.people[0], png(SIDE), "image/png")

    @override
    async def measure(self, meter: Meter) -> None:
        await self.reader.catch_up()
        over = asyncio.Event()
        async with meter.window():
            made = [asyncio.create_task(self._look(person, over)) for person in self.people]
            deadline = time.perf_counter() + meter.seconds
            while time.perf_counter() < deadline:
                meter.record((await self.reader.peek()).seconds)
                await asyncio.sleep(0.01)
            over.set()
            meter.notes["thumbnails"] = sum(await asyncio.gather(*made))

    async def _look(self, person: Person, over: asyncio.Event) -> int:
        count = 0
        while not over.is_set():
            number = next(_numbers)
            size = f"width={200 + number % 700}&height={100 + number // 700 % 700}"
            path = f"/_matrix/client/v1/media/thumbnail/{self.file}?method=crop&{size}"
            await person.connection.succeed(person.target.request("GET", path, token=person.token))
            count += 1
        return count


def uploading(person: Person, data: bytes, content_type: str) -> bytes:
    """The request that uploads."""
    head = (
        f"POST /_matrix/media/v3/upload HTTP/1.1\r\nHost: {person.target.host}:{person.target.port}\r\n"
        f"Authorization: Bearer {person.token}\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def upload(person: Person, data: bytes, content_type: str) -> str:
    """Upload; answers `server/id`."""
    response = await person.connection.succeed(uploading(person, data, content_type))
    return str(response.json()["content_uri"]).removeprefix("mxc://")


def png(side: int) -> bytes:
    """A coloured square with so many pixels a side, made without any library."""
    rows = b"".join(
        b"\0" + b"".join(bytes((x * y // 7 % 256, x % 256, y % 256)) for x in range(0, side, 8)) * 8
        for y in range(0, side, 8)
        for _ in range(8)
    )
    head = struct.pack("!IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
