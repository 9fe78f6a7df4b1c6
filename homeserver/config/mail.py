"""Sending mail."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from homeserver.config.base import Duration, Section
from homeserver.config.server import BaseUrl


def _check_sender(sender: str) -> str:
    local, _, domain = parseaddr(sender)[1].rpartition("@")
    if not local or not domain or not sender.isprintable():
        raise ValueError("an address is expected, with or without a name: Atrium <noreply@example.com>")
    return sender


def _check_recipient(address: str) -> str:
    if parseaddr(address)[1] != address or _check_sender(address) != address or len(address) > 254:
        raise ValueError("an address without a name is expected: moderators@example.com")
    return address


class MailSection(Section):
    """How mail is sent: to prove addresses, to reset passwords, to notify."""

    host: str = Field(examples=["smtp.example.com"])
    """The mail server."""

    port: int = Field(default=587, ge=1, le=65535)
    """Its port: 587 with starttls, 465 with tls, 25 with none."""

    security: Literal["starttls", "tls", "none"] = "starttls"
    """starttls (switch to TLS after the greeting, and insist on it), tls (from the first byte), none."""

    username: str | None = None
    """If it wants one."""

    password: SecretStr | None = None
    """If it wants one."""

    sender: Annotated[str, AfterValidator(_check_sender)] = Field(examples=["Atrium <noreply@example.com>"])
    """Who the mails are from."""

    timeout: Duration = Field(default=30.0, ge=1)
    """How long the mail server may take for each step."""

    link_lifetime: Duration = Field(default=3600.0, ge=60)
    """How long the link in a mail works, and how long afterwards what it proved can be used."""

    hide_addresses: bool = False
    """Whether nobody may learn which addresses have accounts here: the answer is the same in any case then, and who
    tries to register with an address that has an account gets a mail that says so. Clients cannot explain as much."""

    next_link_hosts: tuple[str, ...] = Field(default=(), examples=[["chat.example.com"]])
    """Web clients, by host name, that the page behind a link may lead back to."""

    reports_to: tuple[Annotated[str, AfterValidator(_check_recipient)], ...] = Field(
        default=(), max_length=10, examples=[["moderators@example.com"]]
    )
    """Who is told by mail that something was reported: how many messages, rooms and users, not what they say."""

    notifications: bool = True
    """Whether people may have mails about what they have not read."""

    notification_delay: Duration = Field(default=600.0, ge=1, le=86_400)
    """How long something must be unread before there is a mail about it."""

    notification_pause: Duration = Field(default=3600.0, ge=1, le=86_400)
    """How long after a mail its rooms alone are no reason for another. Six times as long after each further one, up to a day;
    over when what was told is read."""

    notification_content: bool = True
    """Whether these mails say what messages say, where they are not encrypted, or only who has sent how many and where."""

    client_url: BaseUrl | None = Field(default=None, examples=["https://chat.example.com"])
    """The web client that links in these mails lead to, one that knows Element Web's links. Default: the one of web_client;
    without that, a page that asks for an app (matrix.to)."""

    @model_validator(mode="after")
    def _a_password_goes_with_a_name(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username, password: one without the other is of no use")
        return self
