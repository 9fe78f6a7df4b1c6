"""Application services, put together."""

from __future__ import annotations

import contextlib

from appservices.administration import Administration
from appservices.api import AppserviceApi
from appservices.checks import AliasOwnership, InviteeQuery
from appservices.client import AppserviceClient
from appservices.content import Content
from appservices.delivery import ITEMS, Delivery, Sources
from appservices.device_lists import DeviceListChanges
from appservices.entries import AppservicesChangedSink
from appservices.figures import AppserviceFigures
from appservices.interest import Interest
from appservices.networks import Networks
from appservices.networks_api import NetworksApi
from appservices.queries import Queries
from appservices.registry import Registry
from appservices.types import Service
from homeserver.accounts.types import NewAccount
from homeserver.config import Config
from homeserver.e2ee.entries import KeyCountEntry, KeysClaimedEntry
from homeserver.e2ee.source import DeviceListSource
from homeserver.graph.event_source import EventSource
from homeserver.log.readers.sources import FreshSource
from homeserver.log.readers.types import Backoff, Reader
from homeserver.matrix.errors import UserInUse
from homeserver.matrix.ids import UserId
from homeserver.presence.types import PresenceEntry
from homeserver.receipts.types import ReceiptEntry
from homeserver.runtime.periodic import every
from homeserver.to_device.source import ToDeviceSource
from homeserver.typing.entries import TypingEntry
from homeserver.web.system_api import Impaired
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.directory import DirectoryFeature
from homeserver.wiring.e2ee import E2eeFeature
from homeserver.wiring.ephemeral import EphemeralFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.outbound import outbound_of
from homeserver.wiring.rooms import RoomsFeature
from homeserver.wiring.to_device import ToDeviceFeature

READER = "appservices"
LOOK_EVERY = 60.0
"""Seconds after which registrations are looked at again, whatever was heard."""
AT_ONCE = 1_000
"""Services that are told something at the same time; who is looked for counts, too."""


def registry_of(config: Config, core: Core) -> Registry:
    """The services of a process; before the features that ask who somebody is."""
    return Registry(core.db, core.server_name, config.appservices.registration_files)


def administration_of(config: Config, core: Core) -> Administration:
    """Registering at run time, for commands."""
    return Administration(
        core.db, core.log, core.clock, core.server_name, config.appservices.registration_files
    )


class AppserviceFeature:
    """Services, projections, reader, endpoints."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        config: Config,
        core: Core,
        registry: Registry,
        accounts: AccountsFeature,
        rooms: RoomsFeature,
        directory: DirectoryFeature,
    ) -> None:
        self._core = core
        self.registry = registry
        self._accounts = accounts
        self._directory = directory
        self._outbound = outbound_of(config.outbound)
        self.client = AppserviceClient(
            self._outbound, core.clock, legacy_token=config.appservices.legacy_authorization
        )
        self.queries = Queries(registry, self.client, core.clock)
        self._ownership = AliasOwnership(registry)
        self._invitees = InviteeQuery(
            self.queries, registry, accounts.accounts.is_local_account, core.server_name
        )
        self._networks = Networks(registry, self.client, core.clock)
        self._interest = Interest(
            registry, core.db, core.tail, core.interning, rooms.memberships, core.memory
        )
        registry.settle_with(self._settle)
        registry.on_change(lambda: accounts.masquerades.forget(None))
        accounts.profiles.ask_with(self.queries)
        rooms.aliases.reserve_with(self._ownership)
        rooms.aliases.ask_here_with(self.queries)

    def tell(self, ephemeral: EphemeralFeature, to_device: ToDeviceFeature, e2ee: E2eeFeature) -> None:
        """Put together what tells services; before `manifest` is asked for."""
        core = self._core
        self._to_device = ToDeviceSource(self._senders)
        self._device_lists = DeviceListSource()
        self.delivery = Delivery(
            registry=self.registry,
            db=core.db,
            client=self.client,
            content=Content(
                core.db,
                core.interning,
                core.events,
                core.states,
                ephemeral.typing,
                e2ee.counts,
                DeviceListChanges(core.db, core.interning, self._interest),
                core.clock,
            ),
            sources=Sources(events=core.events, to_device=self._to_device, device_lists=self._device_lists),
            to_device=to_device.service,
            clock=core.clock,
        )
        self._figures = AppserviceFigures(self.delivery, core.clock)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        core, registry = self._core, self.registry
        return Manifest(
            name="appservices",
            apis=[
                AppserviceApi(registry, self.client, self._directory.rooms, core.clock),
                NetworksApi(self._networks),
            ],
            sinks=[AppservicesChangedSink()],
            projections=[registry, self._interest],
            readers=[self._reader()],
            policy=[self._ownership.check, self._invitees.check],
            periodic=[every(LOOK_EVERY, registry.refresh, name="appservices.registry", wake=registry.wake)],
            collectors=[self._figures],
            checks={"appservices": self._check},
            stop=[self._outbound.close],
        )

    def _reader(self) -> Reader:
        return Reader(
            name=READER,
            sources=[
                EventSource(self._core.events),
                self._to_device,
                self._device_lists,
                FreshSource(TypingEntry),
                FreshSource(ReceiptEntry),
                FreshSource(PresenceEntry),
                FreshSource(KeyCountEntry),
                FreshSource(KeysClaimedEntry),
            ],
            deliver=self.delivery.deliver,
            interest=self._interest.of,
            batch=ITEMS,
            at_once=AT_ONCE,
            struggling_at_once=AT_ONCE,
            timeout=150.0,
            backoff=Backoff(first=0.05, longest=0.1),
        )

    def _senders(self) -> set[UserId]:
        return {service.sender for service in self.registry.services.values()}

    async def _settle(self, service: Service) -> None:
        """The user that a service acts as has an account from the beginning."""
        with contextlib.suppress(UserInUse):
            await self._accounts.registration.register(
                NewAccount(service.sender, appservice_id=service.id), password=None, session=None
            )

    async def _check(self) -> None:
        if (trouble := self._figures.trouble()) is not None:
            raise Impaired(trouble)
