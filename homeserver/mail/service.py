"""Handing letters to a mail server over SMTP. When to try again is a matter of the job that sends one."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

import aiosmtplib
import structlog

from homeserver.config.mail import MailSection
from homeserver.jobs.types import GiveUp, TryLater
from homeserver.mail.types import Letter
from homeserver.runtime.clock import Clock, Entropy

_log = structlog.get_logger("atrium.mail")


class MailService:
    """Speaks to the configured mail server; a connection for each letter."""

    def __init__(
        self, config: MailSection, clock: Clock, entropy: Entropy, tls: ssl.SSLContext, host: str
    ) -> None:
        """`tls`: what the mail server's certificate must satisfy; `host`: what we call ourselves."""
        self._config = config
        self._clock = clock
        self._entropy = entropy
        self._tls = tls
        self._host = host

    async def send(self, letter: Letter) -> None:
        """Hand a letter to the mail server, once.

        Raises:
            TryLater: it may take the letter later.
            GiveUp: it never will.
        """
        message = self._message(letter)
        # Of the address the log has the domain: enough to see whose mail server makes trouble.
        log = _log.bind(domain=letter.to.rpartition("@")[2], message_id=message["Message-ID"])
        try:
            await self._send(message, letter.to)
        except (aiosmtplib.SMTPException, OSError) as error:
            said = _without(letter.to, error)
            if _may_help_to_wait(error):
                log.info("mail_delayed", error=said)
                raise TryLater(said) from None
            log.warning("mail_not_sent", error=said)
            raise GiveUp(said) from None
        log.info("mail_sent")

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
        display, sender = parseaddr(self._config.sender)
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(display, addr_spec=sender)
        message["To"] = letter.to
        message["Subject"] = letter.subject
        message["Date"] = format_datetime(datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC))
        message["Message-ID"] = (
            f"<{letter.message_id or self._entropy.token(16)}@{sender.rpartition('@')[2]}>"
        )
        # spec: RFC 3834: no answers from programs
        message["Auto-Submitted"] = "auto-generated"
        for name, value in letter.headers.items():
            message[name] = value
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
