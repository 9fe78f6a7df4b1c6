"""Handing letters to a mail server: with and without TLS, with a password, when it is away, when it refuses; and over a restart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from homeserver.config.mail import MailSection
from homeserver.jobs.types import GiveUp, TryLater
from homeserver.mail import service
from homeserver.mail.service import MailService
from homeserver.mail.types import Letter
from homeserver.runtime.clock import Entropy, FakeClock
from homeserver.threepids.outgoing import LETTER
from homeserver.web.outbound import trusting
from tests.integration.threepids.conftest import BASE, mail_section
from tests.support import mailbox as support_mailbox
from tests.support.certificates import self_signed
from tests.support.identity import IdentityServer
from tests.support.mailbox import Mailbox, link_of
from tests.support.waiting import until

LETTER_TO_ALICE = Letter("alice@example.com", "Grüße", "Hällo\n", "<p>Hällo</p>\n")


def sending(mailbox: Mailbox, *, trusted: Sequence[Path] = (), **options: Any) -> MailService:
    config = MailSection.model_validate({**mail_section(mailbox), **options})
    return MailService(config, FakeClock(), Entropy(), trusting(trusted), "matrix.test")


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
async def test_a_letter_arrives_encrypted_where_that_is_asked_for(tmp_path: Path, security: str) -> None:
    authority, tls = self_signed(tmp_path)
    async with support_mailbox.running(security, tls) as mailbox:
        await sending(mailbox, trusted=[authority], security=security).send(LETTER_TO_ALICE)
        letter = await mailbox.next()
        assert mailbox.encrypted == [security != "none"]
    assert (letter["To"], letter["Subject"]) == (LETTER_TO_ALICE.to, LETTER_TO_ALICE.subject)
    assert letter["Message-ID"].endswith("@matrix.test>")
    assert support_mailbox.text_of(letter).splitlines() == LETTER_TO_ALICE.text.splitlines()
    assert support_mailbox.html_of(letter).splitlines() == LETTER_TO_ALICE.html.splitlines()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_nothing_is_sent_to_a_server_nobody_vouches_for(tmp_path: Path, security: str) -> None:
    _, tls = self_signed(tmp_path)
    async with support_mailbox.running(security, tls) as mailbox:
        with pytest.raises(TryLater):
            await sending(mailbox, security=security).send(LETTER_TO_ALICE)
        assert mailbox.empty()


async def test_nothing_is_sent_in_clear_where_tls_is_asked_for(mailbox: Mailbox) -> None:
    """A server, or somebody in between, that offers no TLS gets neither letter nor password."""
    wanted = {"security": "starttls", "username": "atrium", "password": "secret"}
    with pytest.raises(GiveUp):
        await sending(mailbox, **wanted).send(LETTER_TO_ALICE)
    assert mailbox.empty()
    assert mailbox.logins == []


async def test_the_server_gets_its_password(tmp_path: Path) -> None:
    authority, tls = self_signed(tmp_path)
    async with support_mailbox.running("starttls", tls, password=True) as mailbox:
        mail = sending(
            mailbox, trusted=[authority], security="starttls", username="atrium", password="secret"
        )
        await mail.send(LETTER_TO_ALICE)
        await mailbox.next()
        assert mailbox.logins == ["atrium"]


async def test_a_server_that_is_away_is_tried_again() -> None:
    with pytest.raises(TryLater):
        await sending(Mailbox(port=1)).send(LETTER_TO_ALICE)


def test_what_servers_say_is_logged_without_the_address() -> None:
    said = service._without("alice@example.com", ValueError("550 <alice@example.com> unknown"))
    assert "alice" not in said
    assert "550" in said


# --------------------------------------------------------------------------------------------------- as durable work


async def ask(server: IdentityServer, address: str = "alice@example.com", *, expect: Any = 200) -> str:
    body = {"client_secret": address.partition("@")[0], "email": address, "send_attempt": 1}
    reply = await server.client.post("/register/email/requestToken", json=body, expect=expect)
    return str(reply.get("sid", ""))


async def jobs(server: IdentityServer) -> list[tuple[int, bool, str | None]]:
    """(attempts, given up, cause) of each letter that waits."""
    assert server.db is not None
    async with server.db.read() as tx:
        rows = await tx.all(
            "SELECT attempts, failed_at IS NOT NULL, cause FROM jobs WHERE kind = %(kind)s AND owner IS NULL",
            kind=LETTER.name,
        )
    return [(row[0], row[1], row[2]) for row in rows]


def attempted(server: IdentityServer, attempts: int) -> Any:
    async def holds() -> bool:
        return [each[0] for each in await jobs(server)] == [attempts]

    return holds


async def test_a_letter_that_cannot_be_taken_now_is_tried_again(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    mailbox.refuse = ["451 later", "451 later"]
    await ask(mailing)
    await until(attempted(mailing, 1))
    await mailing.all_jobs_are_due()
    await until(attempted(mailing, 2))
    assert mailbox.empty()
    await mailing.all_jobs_are_due()
    assert (await mailbox.next())["To"] == "alice@example.com"

    async def nothing_waits() -> bool:
        return not await jobs(mailing)

    await until(nothing_waits)


async def test_a_letter_nobody_will_ever_take_is_given_up_and_stands_in_nobodys_way(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    mailbox.refuse = ["550 no such user nobody@example.com"]
    await ask(mailing, "nobody@example.com")
    await until(attempted(mailing, 1))
    ((_, given_up, cause),) = await jobs(mailing)
    assert given_up
    assert cause is not None
    assert "550" in cause
    assert "nobody@" not in cause
    await ask(mailing)
    assert (await mailbox.next())["To"] == "alice@example.com"


async def test_letters_survive_a_restart_and_no_token_waits_with_them(start: Any, mailbox: Mailbox) -> None:
    """AUTH-25: whoever asked before the server stopped gets a link that works after it."""
    options: dict[str, Any] = {
        "alone": False,
        "server": {"name": "localhost", "public_baseurl": BASE},
        "mail": mail_section(mailbox),
        "registration": {"flows": [["email"], ["dummy"]]},
    }
    dying = await start(**options)
    dying.die()
    sid = await ask(dying)
    assert dying.db is not None
    async with dying.db.read() as tx:
        payload = await tx.value("SELECT payload FROM jobs")
        assert await tx.value("SELECT count(*) FROM threepid_tokens") == 0
    assert sid.encode() in payload
    assert b"alice" not in payload
    assert mailbox.empty()
    reborn = await start(**options)
    link = link_of(await mailbox.next())
    assert await reborn.parts.threepids.validation.look(link.partition("token=")[2]) is not None


async def test_too_many_letters_are_refused_not_kept(
    mailing: IdentityServer, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailing.die()
    monkeypatch.setattr("homeserver.threepids.outgoing.LETTER", _of_three())
    for number in range(3):
        await ask(mailing, f"a{number}@example.com")
    await ask(mailing, "one.more@example.com", expect=503)
    assert len(await jobs(mailing)) == 3


def _of_three() -> Any:
    from dataclasses import replace

    return replace(LETTER, most=3)
