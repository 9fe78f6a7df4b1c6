"""Pictures for tests, honest and hostile ones. Needs Pillow."""

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageDraw


def picture(
    kind: str = "PNG", size: tuple[int, int] = (640, 480), mode: str = "RGB", **options: Any
) -> bytes:
    """One with a red left half and a blue right half."""
    made = Image.new(mode, size, "blue")
    ImageDraw.Draw(made).rectangle((0, 0, size[0] // 2 - 1, size[1] - 1), fill="red")
    buffer = io.BytesIO()
    made.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int, size: tuple[int, int] = (400, 200)) -> bytes:
    """A JPEG whose EXIF says how it is to be held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture("JPEG", size, exif=exif)


def animation(kind: str = "GIF", frames: int = 4, size: tuple[int, int] = (200, 100)) -> bytes:
    """Moving, from red to blue."""
    made = [
        Image.new("RGB", size, (255 - 200 * n // max(frames, 1), n % 256, 200 * n // max(frames, 1)))
        for n in range(frames)
    ]
    buffer = io.BytesIO()
    made[0].save(buffer, kind, save_all=True, append_images=made[1:], duration=50, loop=0)
    return buffer.getvalue()


def opened(data: bytes) -> Any:
    """The picture in the bytes."""
    return Image.open(io.BytesIO(data))


def png_bomb(side: int = 30_000) -> bytes:
    """Some kilobytes that say they are `side` x `side` pixels, and unpack to as many."""
    rows = zlib.compressobj(9)
    row = b"\0" + bytes(side * 3)
    data = b"".join(rows.compress(row) for _ in range(64)) + rows.flush()
    head = struct.pack("!IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def gif_bomb(side: int = 60_000) -> bytes:
    """A GIF with a screen far larger than what it holds."""
    small = bytearray(picture("GIF", (8, 8)))
    small[6:10] = struct.pack("<HH", side, side)
    return bytes(small)


def webp_bomb() -> bytes:
    """An extended WebP whose canvas has 16 384 x 16 384 pixels."""
    made = bytearray(animation("WEBP", 2, (16, 16)))
    at = made.index(b"VP8X") + 8
    made[at + 4 : at + 10] = (16_383).to_bytes(3, "little") * 2
    return bytes(made)


def tiff_bomb() -> bytes:
    """A TIFF that claims a hundred thousand pixels a side."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "TIFF")
    return buffer.getvalue().replace(
        struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 100_000)
    )


SVG_BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><text>&c;</text></svg>"""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))
