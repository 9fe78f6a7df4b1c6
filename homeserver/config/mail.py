"""Sending mail."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from homeserver.config.base import Duration, Section


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

    sender: str = Field(examples=["Atrium <noreply@example.com>"])
    """Who the mails are from."""

    timeout: Duration = Field(default=30.0, ge=1)
    """How long the mail server may take."""
