"""Smaller pictures, of honest and of hostile ones. CHECKLIST MEDIA-08 to MEDIA-12."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import StartServer
from tests.integration.media.conftest import THUMBNAIL, parts, upload
from tests.support.client import Answer, Expected
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

pytest.importorskip("PIL", reason="Pillow is not installed: make install")

from tests.support import pictures  # needs Pillow


async def thumbnail(
    user: User, uri: str, width: int, height: int, *, expect: Expected = 200, **params: Any
) -> Answer:
    query = {"width": width, "height": height, **params}
    return await user.exchange("GET", THUMBNAIL, *parts(uri), params=query, expect=expect)


@pytest.mark.parametrize(
    ("asked", "method", "size"),
    [
        # CHECKLIST MEDIA-10: the sizes every server has
        ((32, 32), "crop", (32, 32)),
        ((96, 96), "crop", (96, 96)),
        ((320, 240), "scale", (320, 160)),
        ((640, 480), "scale", (640, 320)),
        ((800, 600), "scale", (800, 400)),
        # CHECKLIST MEDIA-09: no smaller than asked for, in the ratio asked for
        ((40, 40), "crop", (96, 96)),
        ((300, 100), "crop", (300, 100)),
        ((330, 10), "scale", (640, 320)),
        ((1000, 100), "scale", (1280, 640)),
    ],
)
async def test_media_09_media_10_sizes(
    server: Server, asked: tuple[int, int], method: str, size: tuple[int, int]
) -> None:
    alice = await server.register("alice")
    uri = await upload(alice, pictures.picture("PNG", (1600, 800)), "image/png")
    answer = await thumbnail(alice, uri, *asked, method=method)
    if asked == (1000, 100):
        size = (640, 320)  # 320 high is what fits into the box
    made = pictures.opened(answer.body)
    assert made.size == size
    assert answer.headers["content-type"] == "image/jpeg"
    left, right = made.getpixel((1, size[1] // 2)), made.getpixel((size[0] - 2, size[1] // 2))
    assert left[0] > 200 > left[2]
    assert right[2] > 200 > right[0]


async def test_media_09_nothing_is_made_larger_and_what_is_small_comes_as_it_is(server: Server) -> None:
    alice = await server.register("alice")
    data = pictures.picture("PNG", (50, 20))
    uri = await upload(alice, data, "image/png")
    assert (await thumbnail(alice, uri, 320, 240)).body == data
    assert (await thumbnail(alice, uri, 96, 96, method="crop")).body == data
    cropped = pictures.opened((await thumbnail(alice, uri, 40, 40, method="crop")).body)
    assert cropped.size == (50, 20) or cropped.size[0] == cropped.size[1]


async def test_media_12_bad_dimensions_and_headers(server: Server) -> None:
    alice = await server.register("alice")
    uri = await upload(alice, pictures.picture(), "image/png")
    for bad in ({"width": 0}, {"width": -1}, {"width": "1.5"}, {"width": "x"}, {"method": "squeeze"}):
        await alice.get(
            THUMBNAIL, *parts(uri), params={"width": 32, "height": 32, **bad}, expect=(400, "M_INVALID_PARAM")
        )
    await alice.get(THUMBNAIL, *parts(uri), params={"width": 32}, expect=(400, "M_MISSING_PARAM"))
    answer = await thumbnail(alice, uri, 10**9, 10**9)
    assert pictures.opened(answer.body).size == (640, 480)
    answer = await thumbnail(alice, uri, 96, 96)
    assert answer.headers["content-disposition"] == 'inline; filename="thumbnail.jpg"'
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_pictures_are_held_the_right_way(server: Server, orientation: int) -> None:
    alice = await server.register("alice")
    uri = await upload(alice, pictures.turned(orientation, (900, 450)), "image/jpeg")
    made = pictures.opened((await thumbnail(alice, uri, 320, 240)).body)
    assert made.size == ((320, 160) if orientation < 5 else (120, 240))
    assert made.getexif().get(0x0112, 1) == 1
    red_first = made.getpixel((3, 3))[0] > 128
    assert red_first == (orientation in {1, 4, 5, 6})


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
async def test_media_11_animations(server: Server, kind: str) -> None:
    alice = await server.register("alice")
    uri = await upload(alice, pictures.animation(kind, 6, (500, 400)), f"image/{kind.lower()}")
    for params, moves in (({}, False), ({"animated": False}, False), ({"animated": True}, True)):
        answer = await thumbnail(alice, uri, 320, 240, **params)
        made = pictures.opened(answer.body)
        assert getattr(made, "is_animated", False) == moves
        assert made.size == (300, 240)
        if moves:
            assert (answer.headers["content-type"], made.n_frames) == ("image/webp", 6)
    still = pictures.opened((await thumbnail(alice, uri, 640, 480, animated=False)).body)
    assert not getattr(still, "is_animated", False)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("L", "PNG"), ("CMYK", "JPEG"), ("I;16", "PNG"), ("RGB", "AVIF")]
)
async def test_every_kind_of_picture(server: Server, mode: str, kind: str) -> None:
    from PIL import Image, features

    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    data = pictures.picture(kind, (400, 300), mode) if mode != "I;16" else _deep(Image)
    alice = await server.register("alice")
    uri = await upload(alice, data, f"image/{kind.lower()}")
    made = pictures.opened((await thumbnail(alice, uri, 96, 96, method="crop")).body)
    assert made.size == (96, 96)


def _deep(module: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    module.new("I;16", (400, 300), 40_000).save(buffer, "PNG")
    return buffer.getvalue()


HOSTILE = {
    "png bomb": (pictures.png_bomb, "image/png", (413, "M_TOO_LARGE")),
    "gif bomb": (pictures.gif_bomb, "image/gif", (413, "M_TOO_LARGE")),
    "webp bomb": (pictures.webp_bomb, "image/webp", (None, None)),
    "tiff bomb": (pictures.tiff_bomb, "image/tiff", (400, "M_UNKNOWN")),
    "svg bomb": (lambda: pictures.SVG_BOMB, "image/svg+xml", (400, "M_UNKNOWN")),
    "svg that says png": (lambda: pictures.SVG_BOMB, "image/png", (400, "M_UNKNOWN")),
    "html that says png": (lambda: b"<script>alert(1)</script>", "image/png", (400, "M_UNKNOWN")),
    "cut png": (lambda: pictures.picture()[:500], "image/png", (400, "M_UNKNOWN")),
    "polyglot": (lambda: b"GIF89a/*" + b"\xff" * 64 + b"*/=1;alert(1)", "image/gif", (None, None)),
    "noise": (lambda: os.urandom(4000), "image/jpeg", (400, "M_UNKNOWN")),
    "empty": (lambda: b"", "image/png", (400, "M_UNKNOWN")),
    "text": (lambda: b"hello", "text/plain", (400, "M_UNKNOWN")),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_hostile_files_get_no_thumbnail_and_a_clear_answer(server: Server, what: str) -> None:
    """Whatever it is, its upload is answered at once; a second wish costs no second look."""
    make, content_type, (status, errcode) = HOSTILE[what]
    alice = await server.register("alice")
    uri = await upload(alice, make(), content_type)
    for _ in range(2):
        expect: Expected = None if status is None else (status, errcode)
        answer = await thumbnail(alice, uri, 320, 240, expect=expect)
        assert answer.status in {400, 413}, what


async def test_an_animation_of_a_thousand_frames_is_taken_at_once_and_stands_still(server: Server) -> None:
    alice = await server.register("alice")
    data = await asyncio.to_thread(pictures.animation, "GIF", 1000, (400, 300))
    began = time.monotonic()
    uri = await upload(alice, data, "image/gif")
    assert time.monotonic() - began < 20
    made = pictures.opened((await thumbnail(alice, uri, 320, 240, animated=True)).body)
    assert not getattr(made, "is_animated", False)


async def test_media_08_bounds_are_the_configurations(start_server: StartServer) -> None:
    server = await start_server(
        media={"thumbnails": {"max_pixels": 100_000, "max_source": 20_000, "max_frames": 2, "processes": 1}}
    )
    alice = await server.register("alice")
    many = await upload(alice, pictures.picture("PNG", (400, 300)), "image/png")
    await thumbnail(alice, many, 96, 96, expect=(413, "M_TOO_LARGE"))
    large = await upload(alice, os.urandom(20_001), "image/png")
    await thumbnail(alice, large, 96, 96, expect=(413, "M_TOO_LARGE"))
    moving = await upload(alice, pictures.animation("GIF", 3, (300, 300)), "image/gif")
    made = pictures.opened((await thumbnail(alice, moving, 96, 96, animated=True)).body)
    assert not getattr(made, "is_animated", False)


async def test_many_at_once_are_made_once(
    start_server: StartServer, folder_of: Callable[[Server], Path]
) -> None:
    server = await start_server()
    alice = await server.register("alice")
    uri = await upload(alice, pictures.picture("JPEG", (2000, 1500)), "image/jpeg")
    answers = await asyncio.gather(*(thumbnail(alice, uri, 320, 240) for _ in range(10)))
    assert len({answer.body for answer in answers}) == 1
    assert sum(path.is_file() for path in folder_of(server).rglob("*")) == 2
    sizes = [(n, n + 1) for n in range(100, 130)]
    for width, height in sizes:
        await thumbnail(alice, uri, width, height, method="crop")

    async def bounded() -> bool:
        return sum(path.is_file() for path in folder_of(server).rglob("*")) == 1 + 24

    await until(bounded)


async def test_a_process_that_dies_is_replaced(start_server: StartServer) -> None:
    server = await start_server(media={"thumbnails": {"processes": 1, "timeout": 20}})
    alice = await server.register("alice")
    good = await upload(alice, pictures.picture("JPEG", (800, 600)), "image/jpeg")
    await thumbnail(alice, good, 96, 96)
    children = [each for each in psutil.Process().children() if "sandbox" in " ".join(each.cmdline())]
    for child in children:
        child.kill()
    await asyncio.sleep(0.3)
    await thumbnail(alice, good, 640, 480)


async def test_what_a_process_dies_of_is_not_tried_again(start_server: StartServer) -> None:
    server = await start_server(media={"thumbnails": {"processes": 1}})
    assert server.app is not None
    sandbox = server.app.features.media._sandbox
    alice = await server.register("alice")
    good = await upload(alice, pictures.picture("JPEG", (800, 600)), "image/jpeg")
    await thumbnail(alice, good, 96, 96)
    bad = await upload(alice, pictures.picture("JPEG", (801, 600)), "image/jpeg")
    [child] = sandbox._all
    process = psutil.Process(child.process.pid)
    process.suspend()
    asked = asyncio.create_task(thumbnail(alice, bad, 640, 480, expect=(413, "M_TOO_LARGE")))

    async def is_given_it() -> bool:
        return sandbox._slots.locked()

    await until(is_given_it)
    await asyncio.sleep(0.3)
    process.kill()  # as the kernel does with who takes too much
    await asked
    assert sandbox.killed == 1
    await thumbnail(alice, bad, 640, 480, expect=(413, "M_TOO_LARGE"))
    assert sandbox.killed == 1
    await thumbnail(alice, good, 640, 480)


async def test_a_process_takes_no_more_memory_than_it_may(start_server: StartServer) -> None:
    server = await start_server(media={"thumbnails": {"memory": "256M"}})
    alice = await server.register("alice")
    data = await asyncio.to_thread(pictures.picture, "PNG", (7700, 7700), compress_level=1)
    await thumbnail(alice, await upload(alice, data, "image/png"), 640, 480, expect=(413, "M_TOO_LARGE"))


async def test_a_process_that_takes_too_long_is_ended(start_server: StartServer) -> None:
    server = await start_server(media={"thumbnails": {"processes": 1}})
    assert server.app is not None
    sandbox = server.app.features.media._sandbox
    alice = await server.register("alice")
    good = await upload(alice, pictures.picture("JPEG", (800, 600)), "image/jpeg")
    await thumbnail(alice, good, 96, 96)
    [child] = sandbox._all
    psutil.Process(child.process.pid).suspend()
    from homeserver.media.sandbox import pool

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pool, "_STARTING", 0.2)
        patched.setattr(pool, "_OVER_CPU", 0.0)
        await thumbnail(alice, good, 640, 480, expect=503)
    assert sandbox.killed == 1
    await thumbnail(alice, good, 640, 480)
    assert not psutil.pid_exists(child.process.pid)
