"""What the server asks of a process of the sandbox, and what it is told: lines of JSON over pipes."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

MAX_LINE: Final = 1 << 20
"""Bytes of a task or an answer."""


class ThumbnailTask(msgspec.Struct, frozen=True, kw_only=True, tag="thumbnail"):
    """Make a smaller picture of the file `source` and write it to `target`."""

    source: str
    target: str
    width: int
    """Pixels, as `height`: the box to fit into (scale) or to fill (crop)."""
    height: int
    crop: bool
    animated: bool
    """If the source is, and not too long."""
    max_pixels: int
    """Of the source, in one frame."""
    max_frames: int
    seconds: float
    """CPU time for all of it."""


class PageTask(msgspec.Struct, frozen=True, kw_only=True, tag="page"):
    """Read what the beginning of a web page says of itself."""

    source: str
    content_type: str
    """As told by the page's server."""
    seconds: float


Task = ThumbnailTask | PageTask


class Thumbnail(msgspec.Struct, frozen=True, kw_only=True, tag="thumbnail"):
    """What was made, and of what."""

    content_type: str
    """Of the file at `target`; of the source where that serves."""
    width: int
    height: int
    original: bool
    """The source is no larger than what was asked for, and serves as it is: nothing was written."""
    source_type: str
    source_width: int
    """As it is to be looked at, as `source_height`."""
    source_height: int


class Page(msgspec.Struct, frozen=True, kw_only=True, tag="page"):
    """What a page says of itself; every text is bounded."""

    properties: dict[str, str]
    """`og:title` and the like, by their names."""
    oembed: str | None
    """The address of its oEmbed document, as it stands in the page."""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """It cannot be done, ever."""

    reason: Literal["no_picture", "too_large", "broken"]


Answer = Thumbnail | Page | Failed

task_decoder = msgspec.json.Decoder(Task)
answer_decoder = msgspec.json.Decoder(Answer)
encode = msgspec.json.Encoder().encode
