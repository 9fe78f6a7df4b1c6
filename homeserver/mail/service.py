"""Letters on their way: a bounded queue, and workers that hand them to the mail server, trying again where that may help.

What waits here is lost when the process ends. Nothing that is sent may depend on arriving: people can ask again.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Final

import aiosmtplib
import structlog

from homeserver.config.mail import MailSection
from homeserver.mail.types import Letter
from homeserver.matrix.errors import Unavailable
from homeserver.runtime.clock import Clock, Entropy

_log = structlog.get_logger("atrium.mail")

MAX_WAITING: Final = 1_000
WORKERS: Final = 4
PAUSES: Final = (5.0, 30.0, 120.0)
"""Seconds between attempts; after the last the letter is given up."""


class MailService:
    """One per process; `run` must be running."""

    def __init__(
        self, config: MailSection, clock: Clock, entropy: Entropy, tls: ssl.SSLContext, host: str
    ) -> None:
        """`tls`: what the mail server's certificate must satisfy; `host`: what we call ourselves."""
        self._config = config
        self._clock = clock
        self._entropy = entropy
        self._tls = tls
        self._host = host
        self._queue: asyncio.Queue[Letter] = asyncio.Queue(MAX_WAITING)

    def post(self, letter: Letter) -> None:
        """Hand a letter over; it goes out when its turn comes. Raises `Unavailable` when too many wait."""
        try:
            self._queue.put_nowait(letter)
        except asyncio.QueueFull:
            raise Unavailable("Too many mails wait to be sent, try again later") from None

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self._deliver(await self._queue.get())

    async def _deliver(self, letter: Letter) -> None:
        message = self._message(letter)
        # Of the address the log has the domain: enough to see whose mail server makes trouble.
        log = _log.bind(domain=letter.to.rpartition("@")[2], message_id=message["Message-ID"])
        for attempt in range(len(PAUSES) + 1):
            try:
                await self._send(message, letter.to)
            except Exception as error:  # noqa: BLE001  # one letter must not stop the others
                if attempt == len(PAUSES) or not _may_help_to_wait(error):
                    log.warning("mail_not_sent", error=_without(letter.to, error), attempts=attempt + 1)
                    return
                log.info("mail_delayed", error=_without(letter.to, error), attempt=attempt + 1)
                await self._clock.sleep(PAUSES[attempt])
            else:
                log.info("mail_sent", attempts=attempt + 1)
                return

    async def _send(self, message: EmailMessage, to: str) -> None:
        config = self._config
        async with asyncio.timeout(
            2 * config.timeout
        ):  # each step has its own; all of them together have this
            await aiosmtplib.send(
                message,
                sender=parseaddr(config.sender)[1],
                recipients=[to],
                hostname=config.host,
                port=config.port,
                username=config.username,
                password=config.password.get_secret_value() if config.password else None,
                local_hostname=self._host,
                timeout=config.timeout,
                use_tls=config.security == "tls",
                start_tls=config.security == "starttls",
                tls_context=None if config.security == "none" else self._tls,
            )

    def _message(self, letter: Letter) -> EmailMessage:
        name, sender = parseaddr(self._config.sender)
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(name, addr_spec=sender)
        message["To"] = letter.to
        message["Subject"] = letter.subject
        message["Date"] = format_datetime(datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC))
        message["Message-ID"] = f"<{self._entropy.token(16)}@{sender.rpartition('@')[2]}>"
        # spec: RFC 3834: no answers from programs
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        message.add_alternative(letter.html, subtype="html")
        return message


def _without(address: str, error: Exception) -> str:
    """What mail servers say often repeats the address."""
    return repr(error).replace(address, "<address>")[:500]


def _may_help_to_wait(error: Exception) -> bool:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(400 <= refused.code < 500 for refused in error.recipients)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return 400 <= error.code < 500
    return isinstance(error, OSError)  # no connection, no answer in time
