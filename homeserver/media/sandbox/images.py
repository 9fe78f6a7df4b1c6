"""Thumbnails. Runs in the sandbox alone: Pillow's decoders see what strangers have made.

spec: client-server-api/#thumbnails (CHECKLIST MEDIA-09, MEDIA-11)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from time import process_time
from typing import Any, Final

from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from homeserver.media.sandbox.tasks import Failed, Thumbnail, ThumbnailTask

FORMATS: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
}
"""What is read; everything else, SVG and TIFF among it, is no picture here."""
_SERVED: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
"""What an original may be, to serve as its own thumbnail. spec: op:getContentThumbnailAuthed"""
_ANIMATED_SHARE: Final = 0.6
"""Of the time, that an animated thumbnail may take before a still one is made instead."""
_FRAME_MS: Final = 100
_QUALITY: Final = 80


class _TooLong(Exception):
    """An animation that takes too much time or has too many frames."""


def thumbnail(task: ThumbnailTask) -> Thumbnail | Failed:
    """Make what is asked for. Raises `MemoryError`."""
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # counted below, before anything is decoded
    try:
        with Image.open(task.source, formats=list(FORMATS)) as picture:
            return _made(task, picture)
    except (UnidentifiedImageError, FileNotFoundError):
        return Failed(reason="no_picture")
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # a decoder says in many ways that a file is broken
        return Failed(reason="broken")


def _made(task: ThumbnailTask, picture: Any) -> Thumbnail | Failed:
    if picture.width * picture.height > task.max_pixels:
        return Failed(reason="too_large")
    kind = FORMATS[picture.format]
    size = _upright_size(picture)
    moves = bool(getattr(picture, "is_animated", False))
    small = size[0] <= task.width and size[1] <= task.height
    if small and kind in _SERVED and (task.animated or not moves):
        return _told(kind, size, original=True, kind=kind, source=size)
    target = _target(task, size)
    if moves and task.animated:
        try:
            _animate(task, picture, target)
        except _TooLong:
            picture.seek(0)
        else:
            return _told("image/webp", target, original=False, kind=kind, source=size)
    made = _resized(_still(task, picture), target)
    return _told(_save(made, task.target), made.size, original=False, kind=kind, source=size)


def _told(
    content_type: str, size: tuple[int, int], *, original: bool, kind: str, source: tuple[int, int]
) -> Thumbnail:
    return Thumbnail(
        content_type=content_type,
        width=size[0],
        height=size[1],
        original=original,
        source_type=kind,
        source_width=source[0],
        source_height=source[1],
    )


def _upright_size(picture: Any) -> tuple[int, int]:
    turned = picture.getexif().get(0x0112, 1) in {5, 6, 7, 8}
    return (picture.height, picture.width) if turned else (picture.width, picture.height)


def _target(task: ThumbnailTask, size: tuple[int, int]) -> tuple[int, int]:
    """What becomes of a picture of that size; never more than it is.

    Scaled, it keeps its ratio and touches the box from inside; cropped, it has the ratio of the box.
    """
    width, height = size
    if task.crop:
        factor = min(1.0, width / task.width, height / task.height)
        return max(1, round(task.width * factor)), max(1, round(task.height * factor))
    factor = min(1.0, task.width / width, task.height / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _still(task: ThumbnailTask, picture: Any) -> Any:
    longest = max(task.width, task.height)
    picture.draft(
        "RGB", (longest, longest)
    )  # JPEG alone: decodes an eighth, a quarter or a half of the pixels
    picture.load()
    return _plain(ImageOps.exif_transpose(picture))


def _plain(picture: Any) -> Any:
    """In a mode that can be resized and saved."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return picture if picture.mode in {"RGB", "L"} else picture.convert("RGB")


def _resized(picture: Any, target: tuple[int, int]) -> Any:
    width, height = picture.size
    factor = min(width / target[0], height / target[1])
    wide, high = min(target[0] * factor, width), min(target[1] * factor, height)  # rounded, it may be more
    left, top = (width - wide) / 2, (height - high) / 2
    box = (left, top, min(left + wide, width), min(top + high, height))
    return picture.resize(target, Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)


def _animate(task: ThumbnailTask, picture: Any, target: tuple[int, int]) -> None:
    """Write an animated WebP. Raises `_TooLong`."""
    if picture.n_frames > task.max_frames:
        raise _TooLong
    deadline = process_time() + task.seconds * _ANIMATED_SHARE
    durations: list[int] = []

    def frames() -> Iterator[Any]:
        for frame in ImageSequence.Iterator(picture):
            if process_time() > deadline:
                raise _TooLong
            durations.append(int(frame.info.get("duration") or _FRAME_MS))
            yield _resized(frame.convert("RGBA"), target)

    first, *rest = list(frames())
    first.save(
        task.target,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=durations,
        loop=0,
        method=0,
        quality=_QUALITY,
    )


def _save(picture: Any, path: str) -> str:
    if picture.mode == "RGBA":
        picture.save(path, "PNG")
        return "image/png"
    picture.save(path, "JPEG", quality=_QUALITY, progressive=True)
    return "image/jpeg"
