"""The frame of the few pages this server shows to people: one look, nothing loaded from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

LOGO_PATH: Final = "/_atrium/branding/logo"
_STYLE: Final = (
    ":root{color-scheme:light dark;--text:#1b1d22;--dim:#5b6472;--back:#fff;--line:#d5dae1;--soft:#f3f5f7}"
    "@media(prefers-color-scheme:dark){:root{--text:#e8eaee;--dim:#a3acb9;--back:#15171b;--line:#3a404a;--soft:#20242a}}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:3rem 1rem;color:var(--text);background:var(--back)}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem}a{color:inherit}ul{padding-left:1.2rem}label{display:block;margin:1rem 0 .3rem}"
    "input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;border:1px solid var(--dim);border-radius:6px;"
    "color:inherit;background:var(--back)}"
    "button,.button{font:inherit;display:inline-block;padding:.5rem 1.4rem;border:0;border-radius:6px;background:var(--brand);"
    "color:#fff;text-decoration:none;cursor:pointer}button{margin-top:1.2rem}"
    ".logo{display:block;max-width:14rem;max-height:5rem;margin-bottom:1.5rem}"
    ".whose{color:var(--dim);margin:0}.whose+h1{margin-top:.3rem}"
    ".error{color:#b3261e}@media(prefers-color-scheme:dark){.error{color:#ff8a80}}"
)
_CARD: Final = (
    "body{max-width:26rem;padding-top:2rem}"
    "@media(min-width:40rem){html{background:var(--soft)}"
    "body{margin:4rem auto;padding:2rem 2.5rem 2.5rem;border:1px solid var(--line);border-radius:12px}}"
)
"""The style of a page that asks one thing: the whole screen of a phone, a card on a desk."""


@dataclass(frozen=True, slots=True)
class Branding:
    """Whose pages these are. `colour`: `#rrggbb`, one on which white text can be read."""

    name: str
    colour: str
    has_logo: bool


def page(
    title: str,
    inner: str,
    script: str = "",
    *,
    branding: Branding,
    language: str = "en",
    style: str = _CARD,
) -> str:
    """A whole document. `title` is text; `inner`, `script` and `style` stand in it as they are.

    Whose page it is stands above a title that does not say so.
    """
    end = f"<script>{script}</script>" if script else ""
    above = ""
    if branding.has_logo:
        above = f'<img class="logo" src="{LOGO_PATH}" alt="{escape(branding.name)}">'
    elif branding.name not in title:
        above = f'<p class="whose">{escape(branding.name)}</p>'
    brand = f":root{{--brand:{branding.colour}}}"
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}{brand}{style}</style></head><body>{above}<h1>{escape(title)}</h1>{inner}{end}</body></html>"
    )
