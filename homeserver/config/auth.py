"""Passwords, sessions and tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from homeserver.config.base import Duration, Section, Size


class PasswordHash(Section):
    """How expensive it is to try a password: Argon2id."""

    memory: Size = Field(default=19 << 20, ge=8 << 10)
    """Memory of one hash."""

    passes: int = Field(default=2, ge=1, le=100)
    """How often the memory is gone through."""

    parallelism: int = Field(default=1, ge=1, le=16)
    """Lanes."""

    concurrent: int = Field(default=2, ge=1, le=64)
    """How many hashes a process computes at once; the others wait."""


class PasswordPolicy(Section):
    """What a new password must have."""

    minimum_length: int = Field(default=8, ge=1, le=512)
    """Characters."""

    require_digit: bool = False
    """At least one digit."""

    require_symbol: bool = False
    """At least one character that is neither letter nor digit."""

    require_lowercase: bool = False
    """At least one lower-case letter."""

    require_uppercase: bool = False
    """At least one upper-case letter."""


class AuthSection(Section):
    """Passwords, sessions and tokens."""

    password_login: bool = True
    """Whether people can log in with a password."""

    password_hash: PasswordHash = PasswordHash()
    """How expensive it is to try a password."""

    password_policy: PasswordPolicy = PasswordPolicy()
    """What a new password must have."""

    access_token_lifetime: Duration | None = Field(default=None, ge=60)
    """How long an access token without a refresh token is valid; for ever if left out."""

    refreshable_access_token_lifetime: Duration = Field(default=300.0, ge=10)
    """How long an access token is valid for clients that can refresh it."""

    refresh_token_lifetime: Duration | None = Field(default=None, ge=60)
    """After how long without use a refresh token ends; never if left out."""

    ui_auth_session_lifetime: Duration = Field(default=900.0, ge=60)
    """How long a person has to prove who they are before a sensitive change (a device deleted, a password changed)."""

    login_token_lifetime: Duration = Field(default=120.0, ge=5)
    """How long a token for logging in another device is valid."""

    login_tokens: bool = False
    """Whether a logged-in person can get a token to log in another device (a QR code, for example)."""

    rendezvous: Literal["nobody", "members", "everybody"] = "nobody"
    """Who may make a place where two devices meet to sign one of them in by a QR code: nobody, members (people with an account
    here), everybody (without logging in). Clients need OAuth for the rest, which this version does not have."""
