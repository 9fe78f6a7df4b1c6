"""Slack's markup (`mrkdwn`) as plain text and HTML. Pure, and linear in what is read.

Known: `*bold*`, `_italic_`, `~struck~`, `` `code` ``, ```` ```block``` ````, `> quote`, `<url|label>`, `<@user>`,
`<#channel|name>`, `<!here>`, `&amp; &lt; &gt;`. What does not close is shown as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape as escape_html
from typing import Final

from homeserver.hooks.message import NOTHING, Said, clean, escape, is_link, joined

_CODE: Final = re.compile(r"```(.*?)```|`([^`\n]+)`", re.DOTALL)
_ANGLE: Final = re.compile(r"<([^<>\n]{1,2100})>")
_EMPHASIS: Final = tuple(
    (
        re.compile(rf"(?<![\w{sign}]){sign}(?=[^\s{sign}])([^{sign}\n]*[^\s{sign}]){sign}(?![\w{sign}])"),
        element,
    )
    for sign, element in ((r"\*", "strong"), ("_", "em"), ("~", "del"))
)
_EVERYBODY: Final = frozenset({"!channel", "!here", "!everyone"})
_RINGS: Final = re.compile(r"<!(?:channel|here|everyone)(?:\|[^<>\n]*)?>")


def mrkdwn(value: object) -> Said:
    """A text in Slack's markup."""
    source = clean(value)
    if not source or source.isspace():
        return NOTHING
    return joined((_line_block(is_quote, block) for is_quote, block in _blocks(source)), "\n", "")


def calls_everybody(value: object) -> bool:
    """Whether the text is meant for everybody in the room."""
    return bool(_RINGS.search(clean(value)))


def _blocks(source: str) -> list[tuple[bool, str]]:
    """The text in runs of lines that are quoted, or are not; a block of code is not looked into."""
    if "```" in source:
        return [(False, source)]
    runs: list[tuple[bool, list[str]]] = []
    for line in source.split("\n"):
        is_quote = line.startswith((">", "&gt;"))
        bare = line.removeprefix("&gt;").removeprefix(">").lstrip() if is_quote else line
        if runs and runs[-1][0] == is_quote:
            runs[-1][1].append(bare)
        else:
            runs.append((is_quote, [bare]))
    return [(is_quote, "\n".join(bare)) for is_quote, bare in runs]


def _line_block(is_quote: bool, block: str) -> Said:
    said = _inline(block)
    if not is_quote:
        return said
    plain = "\n".join(f"> {line}" for line in said.plain.split("\n"))
    return Said(plain, f"<blockquote>{said.html}</blockquote>")


def _inline(source: str) -> Said:
    """Code and what stands in angle brackets are set aside first, so that nothing inside them is taken for markup."""
    aside: list[Said] = []

    def keep(make: Callable[[re.Match[str]], Said]) -> Callable[[re.Match[str]], str]:
        def replace(found: re.Match[str]) -> str:
            aside.append(make(found))
            return f"\0{len(aside) - 1}\0"

        return replace

    left = _ANGLE.sub(keep(_angle), _CODE.sub(keep(_code), source))
    html = escape(_unescape(left))
    for pattern, element in _EMPHASIS:
        html = pattern.sub(rf"<{element}>\1</{element}>", html)
    return Said(
        _put_back(_unescape(left), [each.plain for each in aside]),
        _put_back(html, [each.html for each in aside]),
    )


def _put_back(text: str, aside: list[str]) -> str:
    # `clean` has left no U+0000 in a text, so these are ours. What was set aside second may hold what was first.
    for _ in range(2):
        text = re.sub("\0([0-9]+)\0", lambda found: aside[int(found[1])], text)
    return text


def _code(found: re.Match[str]) -> Said:
    if found[2] is not None:
        plain = _unescape(found[2])
        return Said(f"`{plain}`", f"<code>{escape_html(plain)}</code>")
    plain = _unescape(found[1]).strip("\n")
    return Said(f"```\n{plain}\n```", f"<pre><code>{escape_html(plain)}\n</code></pre>")


def _angle(found: re.Match[str]) -> Said:
    target, _, label = (_unescape(part) for part in found[1].partition("|"))
    if target in _EVERYBODY:
        return Said("@room", "@room")
    if target.startswith(("@", "#")):
        shown = target[0] + (label.lstrip("@#") or target[1:])
        return Said(shown, escape_html(shown))
    if target.startswith("!"):
        shown = label or target[1:].partition("^")[0]
        return Said(shown, escape_html(shown))
    if not is_link(target):
        shown = _unescape(found[0])
        return Said(shown, escape_html(shown))
    if not label or label == target:
        return Said(target, f'<a href="{escape_html(target)}">{escape_html(target)}</a>')
    return Said(f"{label} ({target})", f'<a href="{escape_html(target)}">{escape_html(label)}</a>')


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
