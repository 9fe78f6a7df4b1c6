"""What other servers send us, put together."""

from __future__ import annotations

from federation.inbound.api import SendApi
from federation.inbound.at_once import AtOnce
from federation.inbound.edus import EduDispatcher
from federation.inbound.ephemeral import Ephemeral
from federation.inbound.known import Here
from federation.inbound.missing import Gaps
from federation.inbound.parts import Parts
from federation.inbound.policy_server import PolicyServers
from federation.inbound.remote import Remote
from federation.inbound.service import Inbound
from federation.inbound.store import CHANNEL
from federation.inbound.transactions import Transactions
from homeserver.config import Config
from homeserver.runtime.figures import Gauges
from homeserver.wiring.core import Core
from homeserver.wiring.ephemeral import EphemeralFeature
from homeserver.wiring.federation import FederationFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.presence import PresenceFeature


class FederationInboundFeature:
    """Plug into it: `edus` takes handlers of further EDUs, `transactions` says what ends invites."""

    def __init__(
        self,
        config: Config,
        core: Core,
        federation: FederationFeature,
        ephemeral: EphemeralFeature,
        presence: PresenceFeature,
    ) -> None:
        self._enabled = config.federation.enabled
        self.edus = EduDispatcher()
        Ephemeral(
            core.rooms,
            federation.acls,
            ephemeral.typing_service,
            ephemeral.remote_receipts,
            presence.elsewhere,
            federation.partners,
        ).register(self.edus)
        self.policy = PolicyServers(federation.client, core.rooms, core.events, core.server_name)
        if self._enabled:
            core.graph.countersign_with(self.policy)
        self.inbound = Inbound(core.db, core.entropy)
        self.inbound.work_with(self._parts(core, federation))
        self.transactions = Transactions(
            core.db,
            core.interning,
            core.rooms,
            federation.acls,
            self.edus,
            self.inbound,
            AtOnce(self.inbound, core.events),
            federation.checker,
            federation.partners,
        )

    def _parts(self, core: Core, federation: FederationFeature) -> Parts:
        here, checker = Here(core.events), federation.checker
        return Parts(
            db=core.db,
            rooms=core.rooms,
            here=here,
            checker=checker,
            gaps=Gaps(
                Remote(federation.client, federation.partners),
                checker,
                here,
                core.outliers,
                core.backfill,
                core.clock,
            ),
            history=core.backfill,
            receiver=core.receiver,
            policy=self.policy,
            owner=self.inbound.owner,
            server_name=core.server_name,
            turns=self.inbound.turns,
            filling=self.inbound.filling,
            awaited=self.inbound.awaited,
            memory=self.inbound.memory,
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        inbound = self.inbound
        if not self._enabled:
            return Manifest(name="federation_inbound")
        return Manifest(
            name="federation_inbound",
            apis=[SendApi(self.transactions)],
            projections=[inbound.awaited],
            policy=[self.policy.check],
            periodic=inbound.periodic(),
            hints={CHANNEL: inbound.hint},
            collectors=[
                self.edus,
                Gauges(
                    [
                        (
                            "atrium_federation_staged_events",
                            "Events of other servers that are not in their rooms yet, in the whole cluster",
                            lambda: inbound.events_staged,
                        ),
                        (
                            "atrium_federation_staged_bytes",
                            "What they take on disk",
                            lambda: inbound.bytes_staged,
                        ),
                        (
                            "atrium_federation_rooms_at_work",
                            "Rooms into which this process takes events of other servers",
                            lambda: inbound.at_work,
                        ),
                    ]
                ),
            ],
            closing=[inbound.close],
            stop=[inbound.stop],
        )
