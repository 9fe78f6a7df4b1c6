"""Handing letters to a mail server: with and without TLS, with a password, when it is away, when it refuses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from homeserver.config.mail import MailSection
from homeserver.mail import service
from homeserver.mail.service import MailService
from homeserver.mail.types import Letter
from homeserver.matrix.errors import Unavailable
from homeserver.runtime.clock import Entropy, FakeClock
from homeserver.web.outbound import trusting
from tests.integration.threepids.conftest import mail_section
from tests.support import mailbox as support_mailbox
from tests.support.certificates import self_signed
from tests.support.mailbox import Mailbox
from tests.support.waiting import until

LETTER = Letter("alice@example.com", "Grüße", "Hällo\n", "<p>Hällo</p>\n")


@contextlib.asynccontextmanager
async def sending(
    mailbox: Mailbox, *, trusted: Sequence[Path] = (), running: bool = True, **options: Any
) -> AsyncIterator[tuple[MailService, FakeClock]]:
    config = MailSection.model_validate({**mail_section(mailbox), **options})
    clock = FakeClock()
    mail = MailService(config, clock, Entropy(), trusting(trusted), "matrix.test")
    task = asyncio.create_task(mail.run()) if running else None
    try:
        yield mail, clock
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def asleep(clock: FakeClock) -> None:
    """A worker waits before it tries again."""

    async def waits() -> bool:
        return clock.sleepers > 0

    await until(waits, within=30)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
async def test_a_letter_arrives_encrypted_where_that_is_asked_for(tmp_path: Path, security: str) -> None:
    authority, tls = self_signed(tmp_path)
    async with (
        support_mailbox.running(security, tls) as mailbox,
        sending(mailbox, trusted=[authority], security=security) as (mail, _),
    ):
        mail.post(LETTER)
        letter = await mailbox.next()
        assert mailbox.encrypted == [security != "none"]
    assert (letter["To"], letter["Subject"]) == (LETTER.to, LETTER.subject)
    assert letter["Message-ID"].endswith("@matrix.test>")
    assert support_mailbox.text_of(letter).splitlines() == LETTER.text.splitlines()
    assert support_mailbox.html_of(letter).splitlines() == LETTER.html.splitlines()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_nothing_is_sent_to_a_server_nobody_vouches_for(tmp_path: Path, security: str) -> None:
    _, tls = self_signed(tmp_path)
    async with (
        support_mailbox.running(security, tls) as mailbox,
        sending(mailbox, security=security) as (mail, clock),
    ):
        mail.post(LETTER)
        await asleep(clock)
        assert mailbox.empty()


async def test_nothing_is_sent_in_clear_where_tls_is_asked_for(mailbox: Mailbox) -> None:
    """A server, or somebody in between, that offers no TLS gets neither letter nor password."""
    wanted = {"security": "starttls", "username": "atrium", "password": "secret"}
    async with sending(mailbox, **wanted) as (mail, _):
        with structlog.testing.capture_logs() as lines:
            mail.post(LETTER)

            async def given_up() -> bool:
                return "mail_not_sent" in [line["event"] for line in lines]

            await until(given_up, within=30)
        assert mailbox.empty()
        assert mailbox.logins == []


async def test_the_server_gets_its_password(tmp_path: Path) -> None:
    authority, tls = self_signed(tmp_path)
    async with (
        support_mailbox.running("starttls", tls, password=True) as mailbox,
        sending(mailbox, trusted=[authority], security="starttls", username="atrium", password="secret") as (
            mail,
            _,
        ),
    ):
        mail.post(LETTER)
        await mailbox.next()
        assert mailbox.logins == ["atrium"]


async def test_a_letter_that_cannot_be_taken_now_is_tried_again(mailbox: Mailbox) -> None:
    mailbox.refuse = ["451 later", "451 later"]
    async with sending(mailbox) as (mail, clock):
        mail.post(LETTER)
        for pause in service.PAUSES[:2]:
            await asleep(clock)
            assert mailbox.empty()
            await clock.advance(pause)
        assert (await mailbox.next())["To"] == LETTER.to


async def test_a_letter_nobody_will_ever_take_stands_in_nobodys_way(mailbox: Mailbox) -> None:
    mailbox.refuse = ["550 no such user"]
    async with sending(mailbox) as (mail, clock):
        mail.post(LETTER._replace(to="nobody@example.com"))

        async def refused() -> bool:
            return not mailbox.refuse

        await until(refused, within=30)
        mail.post(LETTER)
        assert (await mailbox.next())["To"] == LETTER.to
        assert clock.sleepers == 0


async def test_a_server_that_is_away_is_tried_again(unused_tcp_port: int) -> None:
    async with sending(Mailbox(port=unused_tcp_port)) as (mail, clock):
        mail.post(LETTER)
        await asleep(clock)


async def test_too_many_letters_are_refused_not_kept(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_WAITING", 3)
    async with sending(mailbox, running=False) as (mail, _):
        for _ in range(3):
            mail.post(LETTER)
        with pytest.raises(Unavailable):
            mail.post(LETTER)


def test_what_servers_say_is_logged_without_the_address() -> None:
    said = service._without("alice@example.com", ValueError("550 <alice@example.com> unknown"))
    assert "alice" not in said
    assert "550" in said
