"""A mail server in the process of the test, and the letters it has taken."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

_LINK = re.compile(r"https?://\S+token=\S+")


@dataclass
class Mailbox:
    """Where letters arrive. `refuse` answers the next recipients so, one each, before any is taken. With `hold`, nobody is
    answered until it is set; `held` has the ports of those that wait.
    """

    port: int = 0
    refuse: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None
    held: list[int] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    _letters: "asyncio.Queue[EmailMessage]" = field(default_factory=asyncio.Queue)

    async def next(self, timeout: float = 60) -> EmailMessage:
        """The next letter, when it has come."""
        return await asyncio.wait_for(self._letters.get(), timeout)

    def empty(self) -> bool:
        return self._letters.empty()

    async def handle_RCPT(  # noqa: N802  # the library's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse:
            return self.refuse.pop(0)
        if self.hold is not None:
            self.held.append(session.peer[1])
            await self.hold.wait()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        assert envelope.rcpt_tos == [message["To"]]
        self._letters.put_nowait(message)
        return "250 OK"

    def let_in(self, server: SMTP, session: Session, envelope: Envelope, how: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(data.login.decode())
        return AuthResult(success=data.password == b"secret")


@contextlib.asynccontextmanager
async def running(
    security: str = "none", tls: ssl.SSLContext | None = None, *, password: bool = False
) -> AsyncIterator[Mailbox]:
    """A mail server on a free loopback port. `security` as in the configuration."""
    mailbox = Mailbox()

    def session() -> SMTP:
        return SMTP(
            mailbox,
            hostname="mail.test",
            enable_SMTPUTF8=True,
            tls_context=tls if security == "starttls" else None,
            require_starttls=security == "starttls",
            auth_require_tls=security == "starttls",
            auth_required=password,
            authenticator=mailbox.let_in if password else None,
        )

    server = await asyncio.get_running_loop().create_server(
        session, "127.0.0.1", 0, ssl=tls if security == "tls" else None
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()


def text_of(letter: EmailMessage) -> str:
    part = letter.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def html_of(letter: EmailMessage) -> str:
    part = letter.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def link_of(letter: EmailMessage) -> str:
    """The link in a letter; the same in both of its forms."""
    found = _LINK.search(text_of(letter))
    assert found is not None, text_of(letter)
    assert found[0] in unescape(html_of(letter))
    return found[0]
