"""Sending to other servers, put together."""

from __future__ import annotations

from typing import Protocol

from federation.outbound.ephemeral_sources import PresenceEdus, ReceiptEdus, TypingEdus
from federation.outbound.outcomes import EVERY as OUTCOMES_EVERY
from federation.outbound.relays import RelaySink
from federation.outbound.room_servers import RoomServers
from federation.outbound.service import BACK_EVERY, Outbound, Parts
from federation.ports import Client, Partners
from federation.transport.backoff import Backoff
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.periodic import every
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest

SPREAD_EVERY = 5.0
RELAYS_EVERY = 3_600.0


class Transport(Protocol):
    """What asks other servers."""

    @property
    def client(self) -> Client: ...

    @property
    def backoff(self) -> Backoff: ...

    @property
    def partners(self) -> Partners: ...


class FederationOutboundFeature:
    """The sender; `service.sources` is where others register EDUs, before `manifest` is asked for."""

    def __init__(
        self, core: Core, memberships: Memberships, transport: Transport, *, enabled: bool = True
    ) -> None:
        """`enabled`: else nothing is sent, whatever is written."""
        self._enabled = enabled
        self.servers = RoomServers(
            core.db,
            core.tail,
            core.rooms,
            core.events,
            core.states,
            core.memory,
            core.server_name,
            transport.partners,
        )
        self.service = Outbound(
            Parts(
                db=core.db,
                log=core.log,
                events=core.events,
                servers=self.servers,
                sticky=core.sticky,
                visibility=core.visibility,
                client=transport.client,
                partners=transport.partners,
                clock=core.clock,
                server_name=core.server_name,
            )
        )
        transport.backoff.eased = self.service.is_back
        for source in (
            TypingEdus(self.servers, core.interning, core.server_name),
            ReceiptEdus(self.servers, core.interning, core.server_name),
            PresenceEdus(self.servers, memberships, core.server_name, transport.partners),
        ):
            self.service.sources.add_ephemeral(source)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        service = self.service
        return Manifest(
            name="federation.outbound",
            sinks=[RelaySink()],
            projections=[self.servers],
            after_batch=[service.ephemeral.after_batch],
            readers=[service.reader()] if self._enabled else [],
            periodic=[
                every(
                    SPREAD_EVERY,
                    service.ephemeral.spread,
                    name="federation.ephemeral",
                    wake=service.ephemeral.wake,
                ),
                every(OUTCOMES_EVERY, service.outcomes.write, name="federation.outcomes"),
                every(BACK_EVERY, service.try_again, name="federation.back", wake=service.back),
                every(RELAYS_EVERY, service.forget_relays, name="federation.relays", once_in_cluster=True),
            ],
            collectors=[service.figures],
            stop=[service.outcomes.write],
        )
