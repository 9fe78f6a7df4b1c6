"""Writing the letters, in plain text and in HTML. Nothing in them is loaded from elsewhere, and messages are plain text in both.

What people and rooms are called and what they say is others' choice: no line of it gets into a header, no tag into the HTML.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote

from homeserver.mail.types import Letter
from homeserver.push.mail.types import Contents, Message, RoomPart
from homeserver.push.mail.words import Words

MAX_SUBJECT_NAME: Final = 60
"""Characters of a name in a subject."""
_MATRIX_TO: Final = "https://matrix.to/"
_BODY: Final = (
    "margin:0;padding:24px;background:#f4f5f7;font:16px/1.5 Helvetica,Arial,sans-serif;color:#1b1d22"
)
_CARD: Final = "max-width:560px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px"
_ROOM: Final = "margin:24px 0 0;padding:16px 0 0;border-top:1px solid #d5dae1"
_SMALL: Final = "font-size:14px;color:#5b6472"
_TEXT: Final = "margin:0 0 12px;overflow-wrap:anywhere"


class Frame(NamedTuple):
    """What is the same for all letters of an address."""

    to: str
    user_id: str
    server: str
    """Whose server it is."""
    name: str
    """The same, or what the client that set the pusher calls itself."""
    colour: str
    """`#rrggbb`."""
    words: Words
    unsubscribe: str
    """The URL by which these letters end."""
    message_id: str
    """Without angle brackets and domain."""
    link: Callable[[str, str | None], str]
    """(room id, event id) -> where it is opened."""


def client_link(client_url: str | None, *, by_room: bool = True) -> Callable[[str, str | None], str]:
    """Links into a web client whose address is given, or to the page that asks which client one has.

    `by_room`: whether the client knows links to rooms, as Element Web has them.
    """

    def link(room_id: str, event_id: str | None) -> str:
        if client_url is not None and not by_room:
            return client_url
        place = "/".join(quote(part, safe="") for part in (room_id, event_id) if part)
        server = room_id.partition(":")[2]
        via = f"?via={quote(server, safe='')}" if server and event_id else ""
        if client_url is None:
            return f"{_MATRIX_TO}#/{place}{via}"
        return f"{client_url.rstrip('/')}/#/room/{place}{via}"

    return link


def letter(contents: Contents, frame: Frame) -> Letter:
    """A letter that tells of what is unread; `contents` has at least one room."""
    subject = f"[{_short(frame.name)}] {_subject(contents, frame.words)}"
    return Letter(
        frame.to,
        subject,
        _text(contents, frame),
        _html(contents, frame, subject),
        # spec: RFC 2369, RFC 8058: programs that read mail show a button for it
        {
            "List-Unsubscribe": f"<{frame.unsubscribe}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
        frame.message_id,
    )


def _subject(contents: Contents, words: Words) -> str:
    first = contents.rooms[0]
    room = _short(first.name or words.nameless)
    if len(contents.rooms) + contents.more_rooms > 1:
        return words.subject_rooms.format(n=len(contents.rooms) + contents.more_rooms)
    people = {message.sender for message in first.messages}
    person = _short(first.messages[-1].sender)
    if first.invite:
        return words.subject_invite.format(person=person, room=room)
    if len(people) > 1 or first.more:
        return words.subject_room.format(room=room)
    if len(first.messages) == 1 and first.name != first.messages[0].sender:
        return words.subject_one.format(person=person, room=room)
    return words.subject_person.format(person=person)


def _short(name: str) -> str:
    """Fit for a header: one line."""
    name = " ".join(name.split())
    return name if len(name) <= MAX_SUBJECT_NAME else name[: MAX_SUBJECT_NAME - 1] + "…"


def _said(message: Message, words: Words) -> str:
    return message.text if message.text is not None else str(getattr(words, message.kind))


def _time(message: Message, words: Words) -> str:
    try:
        sent = datetime.fromtimestamp(message.sent_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # other servers may say anything
        return ""
    return sent.strftime(words.date)


def _counts(contents: Contents, words: Words) -> str:
    if not contents.more_rooms:
        return ""
    return (
        words.more_rooms_one if contents.more_rooms == 1 else words.more_rooms.format(n=contents.more_rooms)
    )


def _before(part: RoomPart, words: Words) -> str:
    if not part.more:
        return ""
    return words.before_one if part.more == 1 else words.before.format(n=part.more)


def _why(frame: Frame) -> str:
    return frame.words.why.format(user=frame.user_id, name=frame.server)


def _text(contents: Contents, frame: Frame) -> str:
    words = frame.words
    lines = [words.heading, ""]
    for part in contents.rooms:
        name = part.name or words.nameless
        lines += [name, "-" * min(len(name), 60)]
        lines += [line for line in (_before(part, words),) if line]
        for message in part.messages:
            said = _said(message, words)
            head = f"{message.sender} ({_time(message, words)})"
            if message.text is None:
                lines.append(f"{head} {said}")
            else:
                lines += [f"{head}:", *(f"    {line}" for line in said.splitlines())]
        lines += [f"{words.open}: {_open(part, frame)}", ""]
    if counts := _counts(contents, words):
        lines += [counts, ""]
    lines += ["-- ", _why(frame), f"{words.unsubscribe}: {frame.unsubscribe}", ""]
    return "\n".join(lines)


def _open(part: RoomPart, frame: Frame) -> str:
    return frame.link(part.room_id, None if part.invite else part.messages[0].event_id)


def _html(contents: Contents, frame: Frame, subject: str) -> str:
    words = frame.words
    rooms = "".join(_room_html(part, frame) for part in contents.rooms)
    counts = _counts(contents, words)
    return (
        f'<!doctype html><html lang="{words.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escape(subject)}</title></head><body style="{_BODY}"><div style="{_CARD}">'
        f'<p style="{_SMALL};margin:0">{escape(frame.name)}</p>'
        f'<h1 style="font-size:20px;margin:4px 0 0">{escape(words.heading)}</h1>{rooms}'
        f"{f'<p>{escape(counts)}</p>' if counts else ''}"
        f'<p style="{_SMALL};{_ROOM};overflow-wrap:anywhere">{escape(_why(frame))}<br>'
        f'<a href="{escape(frame.unsubscribe)}" style="color:{frame.colour}">{escape(words.unsubscribe)}</a></p>'
        "</div></body></html>\n"
    )


def _room_html(part: RoomPart, frame: Frame) -> str:
    words = frame.words
    messages = "".join(_message_html(message, words) for message in part.messages)
    before = _before(part, words)
    button = f"display:inline-block;padding:8px 20px;background:{frame.colour};color:#ffffff;text-decoration:none;border-radius:6px"
    if before:
        messages = f'<p style="{_SMALL};margin:0 0 12px">{escape(before)}</p>{messages}'
    return (
        f'<div style="{_ROOM}"><h2 style="font-size:17px;margin:0 0 8px;overflow-wrap:anywhere">'
        f"{escape(part.name or words.nameless)}</h2>{messages}"
        f'<a href="{escape(_open(part, frame))}" style="{button}">{escape(words.open)}</a></div>'
    )


def _message_html(message: Message, words: Words) -> str:
    said = escape(_said(message, words)).replace("\n", "<br>")
    if message.text is None:
        said = f'<i style="color:#5b6472">{said}</i>'
    return (
        f'<p style="{_TEXT}"><b>{escape(message.sender)}</b> '
        f'<span style="{_SMALL}">{escape(_time(message, words))}</span><br>{said}</p>'
    )
