"""How often somebody may do something."""

from __future__ import annotations

from pydantic import Field

from homeserver.config.base import Section


class Rate(Section):
    """So many at once, and so many per second in the long run."""

    per_second: float = Field(gt=0, le=1_000_000)
    """How many are allowed in the long run."""

    burst: int = Field(ge=1, le=1_000_000)
    """How many may come at once."""


def _rate(per_second: float, burst: int) -> Rate:
    return Rate(per_second=per_second, burst=burst)


class RateLimitSection(Section):
    """How often somebody may do something. null for a class: no limit. All of an IPv6 /64 are one address."""

    enabled: bool = True
    """False lifts all limits: for tests and closed networks."""

    login: Rate | None = _rate(0.2, 10)
    """Attempts to log in, by address and by account."""

    login_failed: Rate | None = _rate(0.05, 10)
    """Failed attempts to log in, by user id or e-mail address, whether or not it is somebody's."""

    registration: Rate | None = _rate(0.2, 5)
    """New accounts, by address."""

    ui_auth: Rate | None = _rate(0.2, 20)
    """Attempts to prove who one is, by session."""

    message: Rate | None = _rate(10, 100)
    """Events sent to rooms, by person."""

    room: Rate | None = _rate(0.5, 20)
    """Rooms made, by person."""

    join: Rate | None = _rate(1, 30)
    """Rooms joined, by person."""

    invite: Rate | None = _rate(0.5, 30)
    """Invitations, by person."""

    profile: Rate | None = _rate(0.5, 10)
    """Changes of name and picture, by person."""

    upload: Rate | None = _rate(2, 30)
    """Uploads, by person."""

    search: Rate | None = _rate(1, 20)
    """Searches, by person."""

    preview: Rate | None = _rate(1, 20)
    """Web pages looked up, by person."""

    report: Rate | None = _rate(0.1, 20)
    """Reports of events, rooms and users, by person."""

    mail: Rate | None = _rate(0.01, 5)
    """Mails sent on request, by address."""

    sync: Rate | None = _rate(20, 200)
    """Calls of /sync, by device."""

    to_device: Rate | None = _rate(256, 64 * 1024)
    """Kilobytes put into the queues of devices, by sender."""

    delayed: Rate | None = _rate(50, 500)
    """Delayed events restarted, sent or cancelled, which needs no login, by address."""

    call_token: Rate | None = _rate(5, 100)
    """Tokens for calls, by address."""

    hook: Rate | None = _rate(1, 30)
    """Messages posted to an incoming webhook, by webhook."""

    hook_address: Rate | None = _rate(10, 100)
    """Calls of incoming webhooks, by address, whether or not there is such a webhook."""

    default: Rate | None = _rate(50, 300)
    """Everything else, by person."""

    federation: Rate | None = _rate(100, 500)
    """Requests of another server, by its name."""

    key_query: Rate | None = _rate(5, 200)
    """Servers that are asked for their keys because somebody wants to know them of this server, or says to be one of them, by
    address."""

    guest_factor: float = Field(default=0.2, gt=0, le=1)
    """Guests get this share of a person's limit."""
