"""What is said of something that was posted: the same as plain text and as HTML, and how much of it fits into an event.

Pure. HTML is made here of escaped text and of the few elements below alone, so nothing of a sender's gets through as markup.

spec: client-server-api/#mroommessage-msgtypes (`org.matrix.custom.html`), client-server-api/#size-limits
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape as escape_html
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from homeserver.matrix import json

MAX_TEXT: Final = 16 * 1024
"""Characters of one text that is read."""
MAX_SAID: Final = 48 * 1024
"""Characters, in plain and in HTML, after which what is posted is read no further."""
MAX_CONTENT: Final = 48 * 1024
"""Bytes of an event's content; with what the server adds, an event stays below 64 KiB."""
MAX_URL: Final = 2_048
_SCHEMES: Final = frozenset({"http", "https", "mailto"})
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class Said(NamedTuple):
    """The same twice."""

    plain: str
    html: str

    def __bool__(self) -> bool:
        return bool(self.plain.strip())


NOTHING: Final = Said("", "")


def clean(value: object) -> str:
    """Text of a value that a sender wrote: without control characters and halves of surrogates, at most `MAX_TEXT`."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    return _CONTROL.sub("", value[:MAX_TEXT]) if isinstance(value, str) else ""


def escape(text: str) -> str:
    """Text as HTML."""
    return escape_html(text).replace("\n", "<br>")


def text(value: object) -> Said:
    """A value as it is."""
    plain = clean(value)
    return Said(plain, escape(plain))


def bold(said: Said) -> Said:
    return Said(said.plain, f"<strong>{said.html}</strong>") if said else NOTHING


def code(value: object) -> Said:
    plain = clean(value)
    return Said(plain, f"<code>{escape_html(plain)}</code>") if plain else NOTHING


def link(url: object, label: Said) -> Said:
    """A link where the address is one that people can be sent to; else the label alone."""
    address = clean(url)
    if not is_link(address):
        return label
    if not label or label.plain == address:
        return Said(address, f'<a href="{escape_html(address)}">{escape_html(address)}</a>')
    return Said(f"{label.plain} ({address})", f'<a href="{escape_html(address)}">{label.html}</a>')


def is_link(address: str) -> bool:
    """Whether it is an address with a scheme that is safe to follow."""
    if not 0 < len(address) <= MAX_URL or any(sign.isspace() or sign == "\0" for sign in address):
        return False
    try:
        return urlsplit(address).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def joined(parts: Iterable[Said], plain: str = " ", html: str | None = None) -> Said:
    """Those that say something, with a text between them."""
    said = list(_enough(parts))
    between = escape(plain) if html is None else html
    return Said(plain.join(part.plain for part in said), between.join(part.html for part in said))


def run_together(parts: Iterable[Said]) -> Said:
    """One after the other, blanks too."""
    said = list(_enough(parts, blank=True))
    return Said("".join(part.plain for part in said), "".join(part.html for part in said))


def _enough(parts: Iterable[Said], *, blank: bool = False) -> Iterator[Said]:
    """Those that say something (`blank`: all), as long as that is not too much: what nobody will see is not read."""
    size = 0
    for part in parts:
        if blank or part:
            yield part
        size += len(part.plain) + len(part.html)
        if size > MAX_SAID:
            return


def lines(parts: Iterable[Said]) -> Said:
    """One below the other."""
    return joined(parts, "\n", "<br>")


def quoted(said: Said, color: str | None = None) -> Said:
    """Set apart; `color`: `#rrggbb` of a mark before it."""
    if not said:
        return NOTHING
    mark = f'<font color="{color}">■</font> ' if color else ""
    return Said(said.plain, f"<blockquote>{mark}{said.html}</blockquote>")


def bulleted(parts: Iterable[Said]) -> Said:
    """A list."""
    said = list(_enough(parts))
    items = "".join(f"<li>{part.html}</li>" for part in said)
    return Said("\n".join(f"• {part.plain}" for part in said), f"<ul>{items}</ul>" if said else "")


def content_of(said: Said, *, rings: bool = False) -> dict[str, Any]:
    """The content of an `m.room.message` that is no larger than `MAX_CONTENT`: of what is too long, plain text that is cut.

    `rings`: it is meant for everybody in the room (`m.mentions`); otherwise it mentions nobody, whatever stands in it.
    """
    mentions = {"room": True} if rings else {}
    content: dict[str, Any] = {"msgtype": "m.text", "body": said.plain, "m.mentions": mentions}
    if said.html != escape_html(said.plain):
        content |= {"format": "org.matrix.custom.html", "formatted_body": said.html}
    if _bytes(content) <= MAX_CONTENT:
        return content
    content = {"msgtype": "m.text", "body": said.plain, "m.mentions": mentions}
    while _bytes(content) > MAX_CONTENT:
        kept = len(content["body"]) * 3 // 4
        content["body"] = content["body"][:kept] + "…"
    return content


def _bytes(content: Mapping[str, Any]) -> int:
    return len(json.dumps(content))
