"""The largest, the most, the longest."""

from __future__ import annotations

from pydantic import Field

from homeserver.config.base import Duration, Section, Size


class LimitsSection(Section):
    """The largest, the most, the longest. The defaults suit almost everybody."""

    max_body: Size = Field(default=1 << 20, ge=64 << 10)
    """The largest request, apart from uploads and other servers' transactions."""

    max_federation_body: Size = Field(default=12 << 20, ge=1 << 20)
    """The largest request of another server."""

    monthly_active_users: int | None = Field(default=None, ge=1)
    """How many people may use the server within 30 days; null: as many as there are. When it is reached nobody registers, and
    whoever was not here for 30 days cannot log in; administrators can. With server_notices.enabled people are told."""

    sync_timeout: Duration = Field(default=90.0, ge=0)
    """The longest a client may wait for news in one request."""

    sync_timeline: int = Field(default=100, ge=1, le=1000)
    """The most events of a room in one sync, whatever the client's filter says."""

    page: int = Field(default=1000, ge=1, le=10_000)
    """The most events in one page of history."""

    delayed_event_delay: Duration = Field(default=7 * 86400.0, ge=3600, le=365 * 86400)
    """How long in advance a person may have an event sent later: calls need an hour."""

    delayed_events: int = Field(default=100, ge=5, le=10_000)
    """The most events that a person may have waiting to be sent later."""

    delayed_event_bytes: Size = Field(default=1 << 20, ge=64 << 10)
    """The most bytes of them."""

    waiting_syncs: int = Field(default=20_000, ge=10)
    """The most requests of a process that may wait for news."""

    devices_per_user: int = Field(default=200, ge=1)
    """The most devices of a person; the one unused longest makes room."""

    waiting_messages: int = Field(default=200_000, ge=1_000)
    """The most to-device messages (keys, for the most part) that wait for a device that is away."""

    waiting_bytes: Size = Field(default=256 << 20, ge=1 << 20)
    """The most bytes of them that wait for a device; for all devices of a person together four times as much."""

    caches: Size = Field(default=64 << 20, ge=32 << 20)
    """What a process keeps in memory of rooms, events and users, roughly; beyond it, what was not used for longest goes."""

    connections: int | None = Field(default=None, ge=10)
    """The most connections of a process; null: as many as the system lets it open."""

    connections_per_client: int | None = Field(default=5_000, ge=1)
    """The most connections of one address (one /64 of IPv6) to a process. Those of trusted proxies are not counted, but the
    requests under way that they pass on are, for the address that they name. null: as many as there may be."""

    requests_at_once: int = Field(default=8, ge=1, le=10_000)
    """How many requests of one user, application service or other server a process works on at the same time; further ones wait
    behind them, so that nobody delays the others. Waiting for news, uploads and other servers' answers do not count."""

    drain: Duration = Field(default=0.0, ge=0, le=300)
    """Behind a load balancer: how long the server goes on as before when it is asked to stop, while /health says stopping, so
    that nothing more is sent here by the time it stops listening. A few times the balancer's interval between checks."""

    shutdown: Duration = Field(default=8.0, ge=0.1, le=60)
    """How long requests under way may take when the server is asked to stop."""
