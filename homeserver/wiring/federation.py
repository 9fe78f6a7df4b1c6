"""What stands under all of federation: how others are asked, how they are recognised, and keys. Parts that use it have files of
their own beside this one (`federation_<part>.py`).
"""

from __future__ import annotations

from importlib.metadata import version

from federation.inbound.acl import ServerAcls
from federation.keys.api import KeyApi
from federation.keys.checking import SignatureChecker
from federation.keys.fetching import KeyFetcher
from federation.keys.notaries import Notaries, Notary
from federation.keys.notary import NotaryService
from federation.keys.own import OldKey, OwnKeys
from federation.keys.pruning import KeyPruning
from federation.keys.requests import RequestAuthenticator
from federation.keys.ring import KeyRing
from federation.transport.addresses import Addresses
from federation.transport.api import ServerInformationApi
from federation.transport.backoff import Backoff
from federation.transport.client import SignedClient, Ways
from federation.transport.connections import Connections
from federation.transport.figures import TransportFigures
from federation.transport.resolution import ServerResolver
from federation.transport.shared_backoff import SharedBackoff
from federation.transport.slots import Slots
from federation.transport.srv import DnsLookup, SrvTargets
from federation.transport.tls import PartnerTls
from federation.transport.well_known import WellKnown
from homeserver.config import Config
from homeserver.matrix import base64
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock, Entropy
from homeserver.web.outbound import Outbound
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.core import Core
from homeserver.wiring.federation_partners import PartnersFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.outbound import outbound_of


def ways_of(
    outbound: Outbound, clock: Clock, entropy: Entropy, partner_tls: PartnerTls
) -> tuple[ServerResolver, Connections]:
    """How other servers are found and reached. Close both, in this order."""
    connections = Connections(outbound, Addresses(clock), partner_tls)
    srv = SrvTargets(DnsLookup(), clock, entropy)
    return ServerResolver(WellKnown(connections, clock), srv), connections


class FederationFeature:
    """Plug into it: `client` asks, `outbound` fetches what needs no signature, `checker` checks events and other JSON, `own_keys`
    signs, `partners` permits, `acls` are those of rooms.
    """

    def __init__(self, config: Config, core: Core, limiter: RateLimiter) -> None:
        section = config.federation
        self.agreements = PartnersFeature(config, core, limiter)
        self.partners = self.agreements.policy
        self.own_keys = _own_keys(config, core)
        self.backoff = Backoff(core.clock, core.entropy, longest_ms=round(section.retry_longest * 1000))
        self._shared_backoff = SharedBackoff(self.backoff, core.db, core.clock)
        self.outbound = outbound_of(config.outbound, verify_federation=section.verify_certificates)
        slots = Slots()
        self._figures = TransportFigures(self.backoff, slots)
        self.resolver, self._connections = ways_of(self.outbound, core.clock, core.entropy, self.partners)
        ways = Ways(
            resolver=self.resolver,
            connections=self._connections,
            backoff=self.backoff,
            slots=slots,
            partners=self.partners,
            figures=self._figures,
        )
        self.client = SignedClient(self.own_keys.signer, ways)
        self._fetcher = KeyFetcher(self.client, core.clock)
        asked = Notaries(self.client, _notaries(config), core.clock)
        self.ring = KeyRing(self.own_keys, self._fetcher, asked, core.db, core.memory)
        self._pruning = KeyPruning(core.db, core.clock)
        self.checker = SignatureChecker(self.ring, core.computing)
        self.authenticator = RequestAuthenticator(
            core.server_name, self.ring, self.partners, self.backoff, core.clock, limiter
        )
        self.acls = ServerAcls(core.events, core.memory, self.partners)
        self._apis: list[object] = []
        if section.enabled:
            self._apis = [
                ServerInformationApi(
                    name="Atrium",
                    version=version("atrium-homeserver"),
                    address=config.server.federation_address,
                ),
                KeyApi(self.own_keys, NotaryService(self.own_keys, self.ring, core.db, core.clock, limiter)),
            ]

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="federation",
            apis=self._apis,
            collectors=[self._figures],
            periodic=[*self._shared_backoff.periodic(), self._pruning.periodic()],
            stop=[self._stop],
        )

    async def _stop(self) -> None:
        await self._shared_backoff.exchange()
        await self._fetcher.close()
        await self.resolver.close()
        await self._connections.close()
        await self.outbound.close()
        self.checker.close()


def _own_keys(config: Config, core: Core) -> OwnKeys:
    configured = {
        key_id: OldKey(base64.decode(key.key), key.expired_ts)
        for key_id, key in config.server.old_signing_keys.items()
    }

    def old() -> dict[str, OldKey]:
        noted = core.key_watch.old.values()
        return {each.key_id: OldKey(each.public_key, each.expired_ts) for each in noted} | configured

    validity_ms = round(config.server.key_validity * 1000)
    return OwnKeys(core.server_name, lambda: core.identity.key, old, core.clock, validity_ms)


def _notaries(config: Config) -> list[Notary]:
    return [
        Notary(
            ServerName(each.server_name),
            {key_id: base64.decode(key) for key_id, key in each.verify_keys.items()},
        )
        for each in config.federation.key_servers
    ]
