"""The whole configuration, and what must hold between its sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr

from homeserver.config.appservices import AppserviceSection
from homeserver.config.auth import AuthSection
from homeserver.config.base import Section
from homeserver.config.branding import BrandingSection, WebClientSection
from homeserver.config.calls import CallSection
from homeserver.config.database import DatabaseSection
from homeserver.config.federation import FederationSection
from homeserver.config.identity import IdentitySection
from homeserver.config.limits import LimitsSection
from homeserver.config.listeners import Listener
from homeserver.config.mail import MailSection
from homeserver.config.media import MediaSection
from homeserver.config.notices import ServerNoticesSection
from homeserver.config.observability import LogSection, MetricsSection
from homeserver.config.outbound import OutboundSection
from homeserver.config.presence import PresenceSection
from homeserver.config.rate_limits import RateLimitSection
from homeserver.config.registration import RegistrationSection
from homeserver.config.rooms import RoomsSection
from homeserver.config.server import ServerSection


class Config(Section):
    """Everything an administrator decides."""

    server: ServerSection
    """Who this server is."""

    listeners: tuple[Listener, ...] = Field(default=(Listener(),), min_length=1)
    """Where the server listens, and what may be asked there."""

    database: DatabaseSection = DatabaseSection()
    """Where the server keeps everything."""

    registration: RegistrationSection = RegistrationSection()
    """Who may make an account."""

    auth: AuthSection = AuthSection()
    """Passwords, sessions and tokens."""

    rate_limits: RateLimitSection = RateLimitSection()
    """How often somebody may do something."""

    rooms: RoomsSection = RoomsSection()
    """Rooms and the directories."""

    federation: FederationSection = FederationSection()
    """Speaking with other homeservers."""

    outbound: OutboundSection = OutboundSection()
    """What this server may reach."""

    media: MediaSection = MediaSection()
    """Files people share."""

    presence: PresenceSection = PresenceSection()
    """Who is there."""

    mail: MailSection | None = None
    """How mail is sent; without it, none is."""

    identity: IdentitySection = IdentitySection()
    """Identity servers, by which people are invited and found by their e-mail address."""

    calls: CallSection = CallSection()
    """Voice and video calls."""

    branding: BrandingSection = BrandingSection()
    """What people see of the server: the page at / and the pages for logging in and confirming an address."""

    web_client: WebClientSection | None = None
    """A web client that this server hands out under /web/, with its configuration written by the server."""

    server_notices: ServerNoticesSection = ServerNoticesSection()
    """Notices of the server, each user's in a room of their own."""

    appservices: AppserviceSection = AppserviceSection()
    """Bridges and bots that run beside the server."""

    log: LogSection = LogSection()
    """What is written to standard error."""

    metrics: MetricsSection = MetricsSection()
    """Figures for Prometheus."""

    limits: LimitsSection = LimitsSection()
    """The largest, the most, the longest."""

    _development: bool = PrivateAttr(default=False)
    _source: Path | None = PrivateAttr(default=None)

    @property
    def development(self) -> bool:
        """Whether this is `atrium serve --dev`: open to everybody on this machine."""
        return self._development

    @property
    def source(self) -> Path | None:
        """The file it was read from; None: it was read from none."""
        return self._source

    def read_from(self, path: Path) -> Self:
        """The same, remembering where it was read."""
        copy = self.model_copy()
        copy._source = path  # noqa: SLF001  # our own class
        return copy

    def with_partners_of(self, other: Config) -> Self:
        """The same, with what the other says of whom this server speaks with: all of it that may change while it serves."""
        fields = ("allow", "deny", "partners")
        federation = self.federation.model_copy(
            update={name: getattr(other.federation, name) for name in fields}
        )
        return self.model_copy(update={"federation": federation})

    def for_development(self) -> Self:
        """The same, marked as made by --dev. No file can say so."""
        copy = self.model_copy()
        copy._development = True  # noqa: SLF001  # our own class
        return copy

    def with_database(self, dsn: str) -> Self:
        """The same on another database: how the embedded one becomes known to those who connect."""
        return self.model_copy(update={"database": self.database.model_copy(update={"url": dsn})})

    def with_processes(self, count: int) -> Self:
        """The same with another number of processes."""
        return self.model_copy(update={"server": self.server.model_copy(update={"processes": count})})

    def with_listeners(self, listeners: tuple[Listener, ...]) -> Self:
        """The same, listening elsewhere: how a port that the system chose becomes known."""
        return self.model_copy(update={"listeners": listeners})


def contradictions(sections: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What does not fit together, as (path, sentence); looks only at the sections that are there."""
    registration: RegistrationSection | None = sections.get("registration")
    listeners: tuple[Listener, ...] = sections.get("listeners", ())
    if registration is not None:
        for option, sentence in registration.contradictions():
            yield f"registration.{option}", sentence
    if registration is not None and registration.enabled and "mail" in sections and sections["mail"] is None:
        for number, flow in enumerate(registration.flows):
            if "email" in flow:
                yield (
                    f"registration.flows.{number}",
                    "says email, but there is no mail section to send it with",
                )
    yield from _without_address(sections)
    for number, listener in enumerate(listeners):
        for other, earlier in enumerate(listeners[:number]):
            if listener.meets(earlier):
                yield f"listeners.{number}", f"listens at the same place as listeners.{other}"
                break
    if listeners and not any("client" in listener.resources for listener in listeners):
        yield "listeners", "none of them carries client: nobody could log in"


def _without_address(sections: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Who needs `server.public_baseurl`, where it is not there."""
    server: ServerSection | None = sections.get("server")
    if server is None or server.public_baseurl:
        return
    if sections.get("mail") is not None:
        yield "server.public_baseurl", "needed with a mail section: the links in mails begin with it"
    calls: CallSection | None = sections.get("calls")
    livekit = calls.livekit if calls is not None else None
    if livekit is not None and livekit.service_url is None:
        yield (
            "server.public_baseurl",
            "needed with calls.livekit, or calls.livekit.service_url: clients are told of it",
        )
    if sections.get("web_client") is not None:
        yield "server.public_baseurl", "needed with a web_client section: the client is told of it"
