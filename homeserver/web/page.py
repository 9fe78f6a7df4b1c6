"""The frame of the few pages this server shows to people: one look, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Final

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem;color:#1b1d22}"
    "h1{font-size:1.4rem}label{display:block;margin:1rem 0 .3rem}"
    "input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;border:1px solid #8d97a5;border-radius:6px}"
    "button{font:inherit;margin-top:1.2rem;padding:.5rem 1.4rem;border:0;border-radius:6px;background:#0b6e55;color:#fff}"
    ".error{color:#b3261e}"
)


def page(title: str, inner: str, script: str = "") -> str:
    """A whole document. `title` is text; `inner` and `script` stand in it as they are."""
    end = f"<script>{script}</script>" if script else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{inner}{end}</body></html>"
    )
