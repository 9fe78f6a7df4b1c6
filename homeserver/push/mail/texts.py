"""What a letter says of an event: plain text, one of its own or the kind of thing it is. Pure.

The body of a message is what its sender wrote as plain text; its HTML form is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from homeserver.events.event import Event
from homeserver.push.mail.types import MAX_NAME, MAX_TEXT

MAX_LINES: Final = 8
"""Of a message."""
_LOOKED_AT: Final = 16 * MAX_TEXT
"""Characters of a body that are looked at."""
_BY_MSGTYPE: Final[Mapping[str, str]] = {
    "m.image": "image",
    "m.video": "video",
    "m.audio": "audio",
    "m.file": "file",
}
_BY_TYPE: Final[Mapping[str, str]] = {
    "m.room.encrypted": "encrypted",
    "m.room.member": "invite",
    "m.sticker": "sticker",
    "m.call.invite": "call",
    "m.rtc.notification": "call",
    "org.matrix.msc4075.rtc.notification": "call",
}


def text_of(event: Event) -> tuple[str | None, str]:
    """(what it says, None if it says nothing that is told; what it is otherwise: a name of `words.Words`)."""
    if event.type != "m.room.message":
        return None, _BY_TYPE.get(event.type, "other")
    content = event.content
    msgtype, body = content.get("msgtype"), content.get("body")
    if isinstance(msgtype, str) and msgtype in _BY_MSGTYPE:
        return None, _BY_MSGTYPE[msgtype]
    if not isinstance(body, str):
        return None, "message"
    text = fit_text(_without_quote(body[:_LOOKED_AT], content))
    if text and msgtype == "m.emote":
        text = f"* {text}"
    return text or None, "message"


def fit_text(text: str) -> str:
    """Bounded, without signs that are not shown, and with no empty lines at its ends."""
    lines = [_printable(line) for line in text.strip().splitlines()]
    cut = "\n".join(lines[:MAX_LINES]).strip()
    if len(cut) > MAX_TEXT or len(lines) > MAX_LINES:
        cut = cut[: MAX_TEXT - 1].rstrip() + "…"
    return cut


def fit_name(name: str) -> str | None:
    """One line, bounded; None if nothing is left."""
    name = " ".join(_printable(name[: 4 * MAX_NAME]).split())
    return (name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…") or None


def _printable(line: str) -> str:
    """Without controls, signs that turn the direction of writing, and halves of signs."""
    return "".join(sign if sign.isprintable() else " " for sign in line)


def _without_quote(body: str, content: Mapping[str, Any]) -> str:
    """Without the lines of the message that is answered, as clients once repeated them. spec: client-server-api/#rich-replies"""
    relates = content.get("m.relates_to")
    if not isinstance(relates, Mapping) or "m.in_reply_to" not in relates or not body.startswith("> "):
        return body
    lines = body.split("\n")
    while lines and lines[0].startswith("> "):
        lines.pop(0)
    return "\n".join(lines)
