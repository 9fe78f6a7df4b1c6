"""What mails about unread messages say: PUSH-16."""

from typing import Any

import pytest

from homeserver.config.mail import MailSection
from homeserver.mail.service import MailService
from homeserver.push.mail.letters import Frame, client_link, letter
from homeserver.push.mail.texts import MAX_LINES, fit_name, fit_text, text_of
from homeserver.push.mail.types import MAX_NAME, MAX_TEXT, Contents, Message, RoomPart
from homeserver.push.mail.words import ENGLISH, GERMAN, words_for
from homeserver.runtime.clock import Entropy, FakeClock
from homeserver.web.outbound import trusting
from tests.support.factory import RoomFactory

ROOM = "!a:example.com"


def message(sender: str = "Alice", text: str | None = "hi", kind: str = "message") -> Message:
    return Message("$event", sender, text, kind, 1_700_000_000_000)


def part(*messages: Message, name: str | None = "Lobby", more: int = 0, invite: bool = False) -> RoomPart:
    return RoomPart(ROOM, name, list(messages), more, invite)


def frame(**fields: Any) -> Frame:
    known = Frame(
        "bob@example.com",
        "@bob:example.com",
        "Example",
        "Example",
        "#0b6e55",
        ENGLISH,
        "https://m.example/u?token=t",
        "unread.x",
        client_link(None),
    )
    return known._replace(**fields)


@pytest.mark.parametrize(
    ("rooms", "more_rooms", "english", "german"),
    [
        ([part(message())], 0, "Alice wrote to you in Lobby", "Alice hat Ihnen in Lobby geschrieben"),
        (
            [part(message(), name="Alice")],
            0,
            "New messages from Alice",
            "Neue Nachrichten von Alice",
        ),
        ([part(message(), message("Bo"))], 0, "New messages in Lobby", "Neue Nachrichten in Lobby"),
        ([part(message())], 2, "New messages in 3 rooms", "Neue Nachrichten in 3 Räumen"),
        (
            [part(message(text=None, kind="invite"), invite=True)],
            0,
            "Alice invites you to Lobby",
            "Alice lädt Sie in Lobby ein",
        ),
    ],
)
def test_the_subject_says_who_and_where(
    rooms: list[RoomPart], more_rooms: int, english: str, german: str
) -> None:
    contents = Contents(rooms, more_rooms)
    assert letter(contents, frame()).subject == f"[Example] {english}"
    assert letter(contents, frame(words=GERMAN)).subject == f"[Example] {german}"


def test_no_name_becomes_a_header_or_a_tag() -> None:
    """Whatever people, rooms and clients call themselves."""
    evil = 'x\r\nBcc: eve@example.com\n\n<script>"\u202e'
    name = fit_name(evil)
    made = letter(
        Contents([part(message(name or "", evil), name=name, more=3)], 0), frame(name=name, user_id=evil)
    )
    config = MailSection(host="x", sender="Atrium <a@example.com>", security="none")
    mail = MailService(config, FakeClock(), Entropy(), trusting(()), "example.com")
    sent = mail._message(made)
    assert sent["Bcc"] is None
    assert sent["Message-ID"] == "<unread.x@example.com>"
    assert "\n" not in sent["Subject"]
    assert "<script" not in made.html


def test_words_are_chosen_by_the_language_of_the_pusher() -> None:
    for tag in ("de", "de-AT", "DE_ch"):
        assert words_for(tag) is GERMAN
    for tag in ("", "fr", "en-GB", "x" * 60):
        assert words_for(tag) is ENGLISH


def test_links_lead_to_the_client() -> None:
    assert (
        client_link(None)(ROOM, "$e/+") == "https://matrix.to/#/%21a%3Aexample.com/%24e%2F%2B?via=example.com"
    )
    assert (
        client_link("https://c.example/app/")(ROOM, None) == "https://c.example/app/#/room/%21a%3Aexample.com"
    )
    assert client_link("https://c.example/web/", by_room=False)(ROOM, "$e") == "https://c.example/web/"


def test_a_message_is_bounded_plain_text() -> None:
    assert len(fit_text("x" * 10_000)) <= MAX_TEXT
    assert len(fit_text("x\n" * 10_000).splitlines()) <= MAX_LINES
    assert fit_text(" a\x00b\u202ec\x1b[31m ") == "a b c [31m"
    assert fit_name("x" * 1000) == "x" * (MAX_NAME - 1) + "…"
    assert fit_name(" \n\u200b ") is None


@pytest.mark.parametrize(
    ("type_", "content", "said"),
    [
        (
            "m.room.message",
            {"msgtype": "m.text", "body": "hi", "formatted_body": "<b>no</b>"},
            ("hi", "message"),
        ),
        ("m.room.message", {"msgtype": "m.emote", "body": "waves"}, ("* waves", "message")),
        ("m.room.message", {"msgtype": "m.file", "body": "x.pdf"}, (None, "file")),
        ("m.room.message", {"msgtype": ["m.file"], "body": 7}, (None, "message")),
        ("m.room.encrypted", {"ciphertext": "x", "body": "no"}, (None, "encrypted")),
        ("org.example.new", {"body": "no"}, (None, "other")),
        (
            "m.room.message",
            {
                "msgtype": "m.text",
                "body": "> <@a:b> old\n> older\n\nnew",
                "m.relates_to": {"m.in_reply_to": {"event_id": "$x"}},
            },
            ("new", "message"),
        ),
    ],
)
def test_an_event_is_told_by_what_it_is(type_: str, content: dict[str, Any], said: object) -> None:
    assert text_of(RoomFactory().draft(type_, content)) == said
