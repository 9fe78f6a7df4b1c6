"""Slack's messages (`text`, `blocks`, `attachments`) as text and HTML. Pure.

What only Slack can do (buttons that call back, menus, pictures shown from elsewhere) is left out or becomes a link. Elements beyond
the bounds below are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from homeserver.hooks.message import (
    NOTHING,
    Said,
    bold,
    bulleted,
    clean,
    code,
    joined,
    lines,
    link,
    quoted,
    run_together,
    text,
)
from homeserver.hooks.mrkdwn import calls_everybody, mrkdwn

MAX_BLOCKS: Final = 50
MAX_ATTACHMENTS: Final = 20
MAX_FIELDS: Final = 50
MAX_ELEMENTS: Final = 200
"""In one block of formatted text."""
_COLORS: Final = {"good": "#2eb67d", "warning": "#ecb22e", "danger": "#e01e5a"}
_HEX: Final = re.compile(r"#?[0-9a-fA-F]{6}")


def is_slack(body: Mapping[str, Any]) -> bool:
    """Whether it can be read as a message of Slack's."""
    return any(key in body for key in ("text", "blocks", "attachments"))


def message(body: Mapping[str, Any]) -> Said:
    """What it says. `text` is what clients show that know no blocks, so it counts only where there are none."""
    blocks = lines(_blocks(body.get("blocks")))
    main = blocks or mrkdwn(body.get("text"))
    attachments = map(_attachment, objects(body.get("attachments"), MAX_ATTACHMENTS))
    return joined(chain([main], attachments), "\n", "")


def rings(body: Mapping[str, Any]) -> bool:
    """Whether everybody in the room is called."""
    texts = [
        body.get("text"),
        *(each.get("pretext") for each in objects(body.get("attachments"), MAX_ATTACHMENTS)),
    ]
    return any(map(calls_everybody, texts))


def objects(value: object, most: int) -> Iterator[Mapping[str, Any]]:
    """The objects in a list, the first `most` of it."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        yield from (each for each in value[:most] if isinstance(each, Mapping))


def _attachment(raw: Mapping[str, Any]) -> Said:
    before = mrkdwn(raw.get("pretext"))
    inside = lines(_inside(raw))
    shown = inside or mrkdwn(raw.get("fallback"))
    return joined([before, quoted(shown, _color(raw.get("color")))], "\n", "")


def _inside(raw: Mapping[str, Any]) -> Iterator[Said]:
    yield link(raw.get("author_link"), text(raw.get("author_name")))
    yield link(raw.get("title_link"), bold(text(raw.get("title"))))
    yield mrkdwn(raw.get("text"))
    yield from map(_field, objects(raw.get("fields"), MAX_FIELDS))
    yield from _blocks(raw.get("blocks"))
    yield link(raw.get("image_url") or raw.get("thumb_url"), NOTHING)
    yield joined(_buttons(raw.get("actions")), " · ")
    yield text(raw.get("footer"))


def _color(value: object) -> str | None:
    named = _COLORS.get(clean(value))
    if named is not None:
        return named
    found = clean(value)
    return "#" + found.lstrip("#") if _HEX.fullmatch(found) else None


def _field(raw: Mapping[str, Any]) -> Said:
    return joined([bold(text(raw.get("title"))), mrkdwn(raw.get("value"))], ": ")


def _buttons(value: object) -> Iterator[Said]:
    """Those that lead somewhere."""
    for each in objects(value, MAX_FIELDS):
        if clean(each.get("url")):
            yield link(each.get("url"), _object(each.get("text")))


def _blocks(value: object) -> Iterator[Said]:
    for each in objects(value, MAX_BLOCKS):
        yield _block(each)


def _block(raw: Mapping[str, Any]) -> Said:
    match raw.get("type"):
        case "section":
            fields = map(_object, objects(raw.get("fields"), MAX_FIELDS))
            return lines(chain([_object(raw.get("text"))], fields, _buttons([raw.get("accessory")])))
        case "header":
            return bold(_object(raw.get("text")))
        case "context":
            return joined(_context(raw), " ")
        case "image":
            label = _object(raw.get("title")) or text(raw.get("alt_text"))
            return link(raw.get("image_url"), label)
        case "actions":
            return joined(_buttons(raw.get("elements")), " · ")
        case "markdown":
            return text(raw.get("text"))
        case "divider":
            return Said("———", "<hr>")
        case "rich_text":
            return joined(map(_rich, objects(raw.get("elements"), MAX_ELEMENTS)), "\n", "")
    return NOTHING


def _context(raw: Mapping[str, Any]) -> Iterator[Said]:
    for each in objects(raw.get("elements"), MAX_FIELDS):
        yield text(each.get("alt_text")) if each.get("type") == "image" else _object(each)


def _object(value: object) -> Said:
    """A text object, or a bare text as attachments have them."""
    if not isinstance(value, Mapping):
        return text(value)
    return mrkdwn(value.get("text")) if value.get("type") == "mrkdwn" else text(value.get("text"))


def _rich(raw: Mapping[str, Any]) -> Said:
    elements = list(objects(raw.get("elements"), MAX_ELEMENTS))
    match raw.get("type"):
        case "rich_text_section":
            return run_together(map(_run, elements))
        case "rich_text_quote":
            return quoted(run_together(map(_run, elements)))
        case "rich_text_preformatted":
            plain = "".join(clean(each.get("text")) for each in elements)
            return Said(f"```\n{plain}\n```", f"<pre>{code(plain).html}</pre>") if plain else NOTHING
        case "rich_text_list":
            return bulleted(map(_rich, elements))
    return NOTHING


def _run(raw: Mapping[str, Any]) -> Said:
    match raw.get("type"):
        case "text":
            style = raw.get("style")
            return _styled(raw.get("text"), style if isinstance(style, Mapping) else {})
        case "link":
            return link(raw.get("url"), text(raw.get("text")))
        case "emoji":
            return text(f":{clean(raw.get('name'))}:")
        case "user" | "channel" | "usergroup":
            return text("@" + clean(raw.get("user_id") or raw.get("channel_id") or raw.get("usergroup_id")))
        case "broadcast":
            return text("@room")
    return NOTHING


def _styled(value: object, style: Mapping[str, Any]) -> Said:
    said = code(value) if style.get("code") else text(value)
    html = said.html
    for name, element in (("bold", "strong"), ("italic", "em"), ("strike", "del")):
        if style.get(name):
            html = f"<{element}>{html}</{element}>"
    return Said(said.plain, html)
