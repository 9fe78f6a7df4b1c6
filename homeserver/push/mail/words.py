"""What mails about unread messages say, and the page that ends them, in each language they can say it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Words(NamedTuple):
    """The sentences of one language. `{name}`: whose server it is; `{person}`, `{room}`: names; `{n}`: a number, two or more."""

    language: str
    subject_one: str
    subject_person: str
    subject_room: str
    subject_rooms: str
    subject_invite: str
    heading: str
    invite: str
    encrypted: str
    image: str
    video: str
    audio: str
    file: str
    sticker: str
    call: str
    other: str
    message: str
    before_one: str
    before: str
    more_rooms_one: str
    more_rooms: str
    open: str
    nameless: str
    why: str
    unsubscribe: str
    date: str
    page_title: str
    page_ask: str
    page_button: str
    page_keep: str
    page_done: str
    page_done_text: str
    page_gone: str
    page_gone_text: str


ENGLISH: Final = Words(
    language="en",
    subject_one="{person} wrote to you in {room}",
    subject_person="New messages from {person}",
    subject_room="New messages in {room}",
    subject_rooms="New messages in {n} rooms",
    subject_invite="{person} invites you to {room}",
    heading="What you have not read yet",
    invite="invites you to this room",
    encrypted="sent an encrypted message",
    image="sent a picture",
    video="sent a video",
    audio="sent a voice or sound message",
    file="sent a file",
    sticker="sent a sticker",
    call="called",
    other="sent something new",
    message="sent a message",
    before_one="One message before these",
    before="{n} messages before these",
    more_rooms_one="And in one more room.",
    more_rooms="And in {n} more rooms.",
    open="Open",
    nameless="a room without a name",
    why="You get this mail because notifications by e-mail are switched on for {user} at {name}.",
    unsubscribe="Unsubscribe",
    date="%d %b %Y, %H:%M UTC",
    page_title="Mails about unread messages",
    page_ask="Shall {name} no longer send mails about unread messages to {address}?",
    page_button="Unsubscribe",
    page_keep="You can switch them on again in the settings of your app.",
    page_done="Unsubscribed",
    page_done_text="{address} gets no more mails about unread messages. You can switch them on again in the settings of your app.",
    page_gone="This link does not work any more",
    page_gone_text="If you have unsubscribed before, there is nothing left to do. Else use the link in a newer mail, or the"
    " settings of your app.",
)
GERMAN: Final = Words(
    language="de",
    subject_one="{person} hat Ihnen in {room} geschrieben",
    subject_person="Neue Nachrichten von {person}",
    subject_room="Neue Nachrichten in {room}",
    subject_rooms="Neue Nachrichten in {n} Räumen",
    subject_invite="{person} lädt Sie in {room} ein",
    heading="Was Sie noch nicht gelesen haben",
    invite="lädt Sie in diesen Raum ein",
    encrypted="hat eine verschlüsselte Nachricht gesendet",
    image="hat ein Bild gesendet",
    video="hat ein Video gesendet",
    audio="hat eine Sprach- oder Tonnachricht gesendet",
    file="hat eine Datei gesendet",
    sticker="hat einen Sticker gesendet",
    call="hat angerufen",
    other="hat etwas Neues gesendet",
    message="hat eine Nachricht gesendet",
    before_one="Eine Nachricht davor",
    before="{n} Nachrichten davor",
    more_rooms_one="Und in einem weiteren Raum.",
    more_rooms="Und in {n} weiteren Räumen.",
    open="Öffnen",
    nameless="einem Raum ohne Namen",
    why="Sie bekommen diese E-Mail, weil für {user} bei {name} Benachrichtigungen per E-Mail eingeschaltet sind.",
    unsubscribe="Abbestellen",
    date="%d.%m.%Y, %H:%M UTC",
    page_title="E-Mails über ungelesene Nachrichten",
    page_ask="Soll {name} keine E-Mails über ungelesene Nachrichten mehr an {address} senden?",
    page_button="Abbestellen",
    page_keep="In den Einstellungen Ihrer App können Sie sie wieder einschalten.",
    page_done="Abbestellt",
    page_done_text="{address} bekommt keine E-Mails über ungelesene Nachrichten mehr. In den Einstellungen Ihrer App können Sie"
    " sie wieder einschalten.",
    page_gone="Dieser Link gilt nicht mehr",
    page_gone_text="Wenn Sie schon abbestellt haben, ist nichts mehr zu tun. Sonst nehmen Sie den Link aus einer neueren E-Mail"
    " oder die Einstellungen Ihrer App.",
)
LANGUAGES: Final[Mapping[str, Words]] = {"en": ENGLISH, "de": GERMAN}


def words_for(lang: str) -> Words:
    """By a language tag such as `de-AT`; English where there is nothing better. spec: RFC 4647, 3.4"""
    return LANGUAGES.get(lang.replace("_", "-").partition("-")[0].lower(), ENGLISH)
