"""The mails, in plain text and in HTML. Nothing in them is loaded from elsewhere.

`letter(kind, …)`: what is said for each kind stands in one table; the form is the same for all.
"""

from __future__ import annotations

from html import escape
from typing import Final, Literal, NamedTuple

from homeserver.mail.types import Letter
from homeserver.threepids.types import Purpose

Kind = Purpose | Literal["known"]
"""`known`: somebody wants to register with an address that has an account; only its owner may learn that it has."""


class _Words(NamedTuple):
    subject: str
    said: str
    button: str


_WORDS: Final[dict[Kind, _Words]] = {
    "register": _Words(
        "Confirm your e-mail address for {server}",
        "Somebody, probably you, is making an account at {server} with this e-mail address. If it was you, please"
        " confirm that the address is yours, then go back to where you were registering.",
        "Confirm address",
    ),
    "add": _Words(
        "Confirm your e-mail address for {server}",
        "Somebody, probably you, wants to add this e-mail address to an account at {server}. If it was you, please"
        " confirm that the address is yours, then go back to your settings.",
        "Confirm address",
    ),
    "reset": _Words(
        "Set a new password at {server}",
        "Somebody, probably you, wants to set a new password for the account at {server} that has this e-mail"
        " address. If it was you, please confirm it, then go back to where you asked for it.",
        "Confirm reset",
    ),
    "known": _Words(
        "You have an account at {server}",
        "Somebody, probably you, wanted to make an account at {server} with this e-mail address. There is one with"
        " it already: log in with the address, or set a new password if you have forgotten the old one.",
        "",
    ),
}
_OTHERWISE: Final = "If it was not you, do nothing: without your confirmation nothing happens."

_BODY: Final = (
    "margin:0;padding:24px;background:#f4f5f7;font:16px/1.5 Helvetica,Arial,sans-serif;color:#1b1d22"
)
_CARD: Final = "max-width:480px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px"
_BUTTON: Final = "display:inline-block;padding:10px 24px;background:#0b6e55;color:#ffffff;text-decoration:none;border-radius:6px"
_SMALL: Final = "font-size:14px;color:#5b6470;word-break:break-all"


def letter(kind: Kind, *, to: str, server: str, link: str = "") -> Letter:
    """The mail of a kind; `link` is what the button leads to, `server` this server's name."""
    words = _WORDS[kind]
    subject, said = words.subject.format(server=server), words.said.format(server=server)
    text = "\n\n".join(part for part in (said, link, _OTHERWISE) if part) + "\n"
    button = (
        f'<p><a href="{escape(link)}" style="{_BUTTON}">{escape(words.button)}</a></p>'
        f'<p style="{_SMALL}">If the button does not work, open this address:<br>{escape(link)}</p>'
    )
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<title>{escape(subject)}</title></head><body style="{_BODY}"><div style="{_CARD}">'
        f"<p>{escape(said)}</p>{button if link else ''}<p>{escape(_OTHERWISE)}</p>"
        f'<p style="{_SMALL}">{escape(server)}</p></div></body></html>\n'
    )
    return Letter(to, subject, text, html)
