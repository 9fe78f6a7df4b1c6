"""What the beginning of a web page says of itself: OpenGraph and Twitter cards, title, description, oEmbed.

A scanner of our own instead of a parser: of a page only `<meta>`, `<link>` and `<title>` count, so nothing is built, and every
step goes forward. However odd a page is, the work is bounded by its length.

spec: https://ogp.me/, https://oembed.com/ (discovery); HTML (charset: "prescan", simplified)
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from homeserver.media.sandbox.tasks import Page, PageTask

MAX_PAGE: Final = 512 * 1024
"""Bytes that are looked at."""
MAX_PROPERTIES: Final = 60
MAX_TEXT: Final = 2000
"""Characters of a property."""
_MAX_TAGS: Final = 2000
"""Tags whose attributes are read."""
_MAX_ATTRIBUTES: Final = 40
_MAX_VALUE: Final = 8192
_PRESCAN: Final = 4096

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")
_ATTRIBUTE_NAME = re.compile(r"[\s/]*([^\s=>/\"'<]{1,64})\s*(=?)\s*")
_BARE_VALUE = re.compile(r"[^\s>\"']{0,8192}")
_PROPERTY = re.compile(r"(?:og|article|twitter|video|music|book|profile)(?::[a-z0-9_]{1,32}){1,4}")
_RAW = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style", "textarea", "noscript")}
_TITLE_END = re.compile(r"</title", re.IGNORECASE)
_CHARSET = re.compile(rb"charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}encoding=[\"']([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_HARMFUL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ALLOWED: Final = frozenset(
    {
        *(
            "utf-8",
            "utf-16",
            "utf-16-le",
            "utf-16-be",
            "koi8-r",
            "koi8-u",
            "mac-roman",
            "mac-cyrillic",
            "tis-620",
        ),
        *(
            "gbk",
            "gb2312",
            "gb18030",
            "big5",
            "big5hkscs",
            "euc_jp",
            "shift_jis",
            "cp932",
            "iso2022_jp",
            "euc_kr",
            "cp949",
        ),
        *(f"iso8859-{number}" for number in range(2, 17)),
        *(f"cp{number}" for number in (866, 874, *range(1250, 1259))),
    }
)
"""Character sets of web pages by Python's names; others (punycode, say) take time that grows with the square."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INSTEAD: Final = {
    "og:title": ("twitter:title", "title"),
    "og:description": ("twitter:description", "description"),
    "og:image": ("og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src", "image_src"),
}
"""Where a property comes from if the page does not give it itself."""


def read(task: PageTask) -> Page:
    """What the file says."""
    with Path(task.source).open("rb", buffering=0) as file:
        data = file.read(MAX_PAGE)
    return read_text(decode(data, task.content_type))


def decode(data: bytes, content_type: str) -> str:
    """The text of a page: by its byte-order mark, what its server says, what it says itself, or what it looks like."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    told = _CHARSET.search(content_type.encode("ascii", "replace"))
    inside = _DECLARED.search(data, 0, _PRESCAN) or _CHARSET.search(data, 0, _PRESCAN)
    for match in (told, inside):
        codec = _codec(match[1].decode("ascii")) if match else None
        if codec is not None and (match is told or not codec.startswith("utf-16")):
            return data.decode(codec, "replace")
    try:
        # the last character may be cut through
        return codecs.getincrementaldecoder("utf-8")("strict").decode(data)
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _codec(name: str) -> str | None:
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    if found in {"iso8859-1", "ascii"}:  # as browsers do
        return "cp1252"
    return found if found in _ALLOWED else None


def read_text(text: str) -> Page:
    """What a page says of itself."""
    found: dict[str, str] = {}
    oembed: str | None = None
    for name, attributes in _tags(text):
        if name == "title":
            _add(found, "title", attributes.get("", ""))
        elif name == "meta":
            _meta(found, attributes)
        elif name == "link":
            rel = attributes.get("rel", "").lower().split()
            if "image_src" in rel:
                _add(found, "image_src", attributes.get("href", ""))
            elif "alternate" in rel and attributes.get("type", "").lower() == "application/json+oembed":
                oembed = oembed or attributes.get("href")
    for name, others in _INSTEAD.items():
        for other in others:
            if name not in found and other in found:
                found[name] = found[other]
    kept = {name: value for name, value in found.items() if _PROPERTY.fullmatch(name)}
    return Page(properties=dict(list(kept.items())[:MAX_PROPERTIES]), oembed=oembed)


def _meta(found: dict[str, str], attributes: dict[str, str]) -> None:
    # Pages give OpenGraph's names as `property`, and wrongly as `name`, too.
    name = (attributes.get("property") or attributes.get("name") or "").strip().lower()
    if _PROPERTY.fullmatch(name) or name == "description":
        _add(found, name, attributes.get("content", ""))


def _add(found: dict[str, str], name: str, value: str) -> None:
    value = " ".join(_HARMFUL.sub(" ", value).split())
    if value and name not in found and len(found) < 4 * MAX_PROPERTIES:
        found[name] = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"


def _tags(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """`meta` and `link` with their attributes, `title` with its text as attribute ''. Goes forward only."""
    at, read = 0, 0
    while (start := text.find("<", at)) >= 0 and read < _MAX_TAGS:
        if text.startswith("<!--", start):
            at = text.find("-->", start + 4)
            if at < 0:
                return
            continue
        match = _TAG.match(text, start + 1)
        if match is None:
            at = start + 1
            continue
        name, at = match[0].lower(), match.end()
        if name in {"meta", "link"}:
            read += 1
            attributes, at = _attributes(text, at)
            yield name, attributes
        elif name == "title":
            read += 1
            title, at = _title(text, at)
            yield name, {"": title}
        elif name in _RAW:
            end = _RAW[name].search(text, at)
            if end is None:
                return
            at = end.end()


def _title(text: str, at: int) -> tuple[str, int]:
    begin = text.find(">", at, at + _MAX_VALUE)
    end = _TITLE_END.search(text, begin, begin + _MAX_VALUE) if begin >= 0 else None
    if end is None:
        return "", at
    return html.unescape(text[begin + 1 : end.start()]), end.end()


def _attributes(text: str, at: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    for _ in range(_MAX_ATTRIBUTES):
        match = _ATTRIBUTE_NAME.match(text, at)
        if match is None:
            break
        at = match.end()
        value = ""
        if match[2]:
            quote = text[at : at + 1]
            if quote in {'"', "'"} and quote:
                end = text.find(quote, at + 1, at + 1 + _MAX_VALUE)
                if end < 0:
                    break
                value, at = text[at + 1 : end], end + 1
            else:
                bare = _BARE_VALUE.match(text, at)
                assert bare is not None
                value, at = bare[0], bare.end()
        found.setdefault(match[1].lower(), html.unescape(value))
    return found, at
