"""What the page at `/` says, in each language it can say it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Words(NamedTuple):
    """The sentences of one language. `{name}`: whose server it is; `{server}`: its name; `{address}`: where clients find it."""

    title: str
    text: str
    connect: str
    in_browser: str
    in_browser_hint: str
    enter: str
    copy: str
    copied: str
    address: str
    phone: str
    scan: str
    open_app: str
    apps: str
    no_link: str
    account: str
    can_register: str
    by_invitation: str
    by_mail: str
    ask: str
    help: str
    support_page: str
    contact: str


ENGLISH: Final = Words(
    title="Chat at {name}",
    text="This server holds the conversations of {name}. It speaks Matrix, an open standard, so you choose the app.",
    connect="Connect",
    in_browser="Open in the browser",
    in_browser_hint="Nothing to install.",
    enter="Where an app asks for a server (or homeserver), enter",
    copy="Copy",
    copied="Copied",
    address="If the app does not find it, enter {address} instead.",
    phone="On your phone: Element X",
    scan="Scan this with the phone on which Element X is installed; it then knows the server.",
    open_app="Open Element X",
    apps="Other apps",
    no_link="asks for the server",
    account="Your account",
    can_register="You can make an account in the app.",
    by_invitation="You can make an account in the app; you need a registration token, which an administrator gives you.",
    by_mail="You can make an account in the app; your e-mail address will be asked for.",
    ask="Accounts are made by the administrators of this server.",
    help="Help",
    support_page="Help page",
    contact="Contact",
)
GERMAN: Final = Words(
    title="Chat von {name}",
    text="Dieser Server bewahrt die Gespräche von {name}. Er spricht Matrix, einen offenen Standard: Die App suchen Sie aus.",
    connect="Verbinden",
    in_browser="Im Browser öffnen",
    in_browser_hint="Ohne Installation.",
    enter="Wo eine App nach einem Server (oder Homeserver) fragt, geben Sie ein:",
    copy="Kopieren",
    copied="Kopiert",
    address="Findet die App ihn nicht, geben Sie stattdessen {address} ein.",
    phone="Auf dem Telefon: Element X",
    scan="Scannen Sie dies mit dem Telefon, auf dem Element X installiert ist; es kennt dann den Server.",
    open_app="Element X öffnen",
    apps="Andere Apps",
    no_link="fragt nach dem Server",
    account="Ihr Konto",
    can_register="Sie können in der App ein Konto anlegen.",
    by_invitation="Sie können in der App ein Konto anlegen; dafür gibt Ihnen die Administration ein Registrierungstoken.",
    by_mail="Sie können in der App ein Konto anlegen; dabei wird nach Ihrer E-Mail-Adresse gefragt.",
    ask="Konten legt die Administration dieses Servers an.",
    help="Hilfe",
    support_page="Hilfeseite",
    contact="Kontakt",
)
LANGUAGES: Final[Mapping[str, Words]] = {"en": ENGLISH, "de": GERMAN}


def language_of(accept: str | None) -> str:
    """The language to answer in, by an `Accept-Language` header (RFC 9110, 12.5.4): the first that there is; else English."""
    weighed: list[tuple[float, int, str]] = []
    for place, each in enumerate((accept or "")[:200].split(",")):
        tag, _, quality = each.strip().partition(";q=")
        language = tag.partition("-")[0].lower()
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and weight > 0:
            weighed.append((-weight, place, language))
    return min(weighed)[2] if weighed else "en"
