"""Markdown as messages: plain text, and HTML where there is something to show.

HTML that stands in the text is shown as text: what a bot repeats of people or a language model gets through as no markup.
"""

from __future__ import annotations

import html
from typing import Any, Final

from markdown_it import MarkdownIt

MAX_MARKUP: Final = 64 * 1024
"""Characters; longer texts are sent as they are."""
_markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])


def content(text: str, msgtype: str = "m.notice") -> dict[str, Any]:
    """The content of an `m.room.message`. Pictures become links: clients show none from elsewhere."""
    found: dict[str, Any] = {"msgtype": msgtype, "body": text}
    if len(text) > MAX_MARKUP:
        return found
    rendered = _markdown.render(text).strip()
    if rendered.startswith("<p>") and rendered.endswith("</p>") and rendered.count("<p>") == 1:
        rendered = rendered[3:-4]
    if rendered != html.escape(text, quote=True) and rendered != text:
        found |= {"format": "org.matrix.custom.html", "formatted_body": rendered}
    return found
