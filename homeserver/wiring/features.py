"""All features, put together. Each has a file of its own beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import LiteralString, Protocol, TypeVar

from appservices.registry import Registry
from homeserver.config import Config
from homeserver.log.readers.figures import ReaderFigures
from homeserver.log.readers.figures import check as check_readers
from homeserver.log.readers.service import ReaderService
from homeserver.runtime.disk import DiskSpace
from homeserver.runtime.figures import WRITE_EVERY, Figures
from homeserver.runtime.periodic import Periodic, every
from homeserver.runtime.supervised import SupervisedLoops
from homeserver.runtime.worker import Siblings
from homeserver.sync.sliding.extensions import Streams
from homeserver.web.metrics import HttpMetrics
from homeserver.web.rate_limit import RateLimiter
from homeserver.web.system_api import Check, HealthApi, Impaired, MetricsApi, Unwell
from homeserver.wiring.account_data import AccountDataFeature
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.appservices import AppserviceFeature, registry_of
from homeserver.wiring.calls import CallsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.dehydrated import DehydratedFeature
from homeserver.wiring.delayed import DelayedFeature
from homeserver.wiring.directory import DirectoryFeature
from homeserver.wiring.e2ee import E2eeFeature
from homeserver.wiring.ephemeral import EphemeralFeature
from homeserver.wiring.federation import FederationFeature
from homeserver.wiring.federation_devices import FederationDevicesFeature
from homeserver.wiring.federation_devices import Parts as DevicesParts
from homeserver.wiring.federation_handshakes import HandshakesFeature, Parts
from homeserver.wiring.federation_inbound import FederationInboundFeature
from homeserver.wiring.federation_outbound import FederationOutboundFeature
from homeserver.wiring.federation_serving import FederationServingFeature, Served
from homeserver.wiring.hooks import HooksFeature
from homeserver.wiring.hosts import HostsFeature
from homeserver.wiring.key_backup import KeyBackupFeature
from homeserver.wiring.landing import LandingFeature
from homeserver.wiring.manifest import Manifest, connect
from homeserver.wiring.media import MediaFeature
from homeserver.wiring.notices import NoticesFeature
from homeserver.wiring.presence import PresenceFeature
from homeserver.wiring.profiles import ProfilesInSyncFeature
from homeserver.wiring.push import Letters, NotificationsFeature, PushersFeature, PushFeature
from homeserver.wiring.relations import RelationsFeature
from homeserver.wiring.rendezvous import RendezvousFeature
from homeserver.wiring.reports import ReportsFeature
from homeserver.wiring.rooms import RoomsFeature
from homeserver.wiring.search import SearchFeature
from homeserver.wiring.sliding import SlidingFeature
from homeserver.wiring.spaces import SpacesFeature
from homeserver.wiring.sync import SyncFeature
from homeserver.wiring.threads import ThreadsFeature
from homeserver.wiring.to_device import ToDeviceFeature


class Feature(Protocol):
    """What is put together in a file of its own beside this one."""

    @property
    def manifest(self) -> Manifest: ...


F = TypeVar("F", bound=Feature)


class Features:
    """All features of a process, and their manifests in the order in which they are connected."""

    def __init__(
        self,
        config: Config,
        core: Core,
        limiter: RateLimiter,
        figures: Figures,
        siblings: Siblings | None = None,
    ) -> None:
        self._core = core
        self._siblings = siblings
        embedded = (config.server.data_dir / "postgres" / "postmaster.pid").exists()
        self._disk = DiskSpace(config.server.data_dir if embedded else None, core.clock)
        core.db.when_full = self._disk.refused
        self._figures = figures if config.metrics.enabled else None
        self.http_metrics = HttpMetrics()
        self.manifests: list[Manifest] = [core.manifest]
        services = registry_of(config, core)
        self._people(config, limiter, services)
        self._conversations(config)
        self._devices(config, limiter)
        self._reached_from_outside(config, services)
        self._reading(config)
        self._connect(figures)
        self.authenticator = self.accounts.authenticator
        self.server_authenticator = self.federation.authenticator

    # --- in this order -----------------------------------------------------------------------------------------------

    def _people(self, config: Config, limiter: RateLimiter, services: Registry) -> None:
        self.federation = self._add(FederationFeature(config, self._core, limiter))
        self.accounts = self._add(AccountsFeature(config, self._core, limiter, services))
        self.account_data = self._add(AccountDataFeature(self._core))
        self._add(HostsFeature(config, self._core, limiter))
        self.media = self._add(MediaFeature(config, self._core, self.accounts.profiles))

    def _conversations(self, config: Config) -> None:
        core, profiles = self._core, self.accounts.profiles
        self.rooms = self._add(RoomsFeature(config, core, profiles))
        self.directory = self._add(DirectoryFeature(config, core, self.rooms, self.account_data.labels))
        self.spaces = self._add(SpacesFeature(core, self.rooms, self.directory))
        self.ephemeral = self._add(EphemeralFeature(core, self.account_data))
        self.presence = self._add(PresenceFeature(config, core, self.rooms.memberships, profiles))
        self.profiles = self._add(ProfilesInSyncFeature(core, self.rooms.memberships))
        self.federation_inbound = self._add(self._receiving(config))

    def _devices(self, config: Config, limiter: RateLimiter) -> None:
        core, rooms, accounts = self._core, self.rooms, self.accounts
        self.to_device = self._add(ToDeviceFeature(config, core, limiter))
        self.push = self._add(PushFeature(core, self.account_data.service))
        self.notifications = self._add(
            NotificationsFeature(core, self.push, rooms.memberships, self.account_data.ignores)
        )
        self.pushers = self._add(
            PushersFeature(
                config, core, self.push, rooms.memberships, self.account_data.ignores, self._letters()
            )
        )
        self.relations = self._add(RelationsFeature(core, rooms))
        self.threads = self._add(ThreadsFeature(core, rooms, self.push.rules))
        self._add(ReportsFeature(config, core, accounts, rooms))
        self._add(HooksFeature(core, accounts, rooms, limiter))
        self.delayed = self._add(DelayedFeature(config, core, rooms, limiter))
        self.search = self._add(SearchFeature(core, rooms))
        self.key_backup = self._add(KeyBackupFeature(core))
        self.e2ee = self._add(E2eeFeature(core, accounts, rooms))
        self.dehydrated = self._add(DehydratedFeature(core, accounts, self.e2ee, self.to_device))

    def _reached_from_outside(self, config: Config, services: Registry) -> None:
        self.appservices = self._add(self._services(config, services))
        self.federation_outbound = self._sending(config)
        self.handshakes = self._handshakes(config)
        self.federation_serving = self._add(self._serving(config))
        self._add(RendezvousFeature(config, self._core))
        openid = self.accounts.openid
        self.notices = self._add(
            NoticesFeature(config, self._core, self.accounts, self.rooms, self.account_data)
        )
        self._add(CallsFeature(config, self._core, openid, self.delayed.events, self.federation.client))
        self._add(LandingFeature(config, self._core))

    def _reading(self, config: Config) -> None:
        """The last ones: they wake those who wait when all others have heard."""
        self.sync = self._add(
            SyncFeature(
                self._core,
                self.rooms,
                [stream for each in self.manifests for stream in each.streams],
                self.account_data.ignores,
                self.presence.service,
                self.push.counts,
                self.account_data.service,
                config.limits,
                {"presence": self.presence.stream, "account_data": self.account_data.stream},
            )
        )
        self._add(self._sliding(config))

    # --- what takes more than a line ---------------------------------------------------------------------------------

    def _services(self, config: Config, registry: Registry) -> AppserviceFeature:
        feature = AppserviceFeature(config, self._core, registry, self.accounts, self.rooms, self.directory)
        feature.tell(self.ephemeral, self.to_device, self.e2ee)
        return feature

    def _letters(self) -> Letters:
        threepids = self.accounts.threepids
        return Letters(threepids.service, threepids.mail, self.presence.service)

    def _receiving(self, config: Config) -> FederationInboundFeature:
        return FederationInboundFeature(config, self._core, self.federation, self.ephemeral, self.presence)

    def _handshakes(self, config: Config) -> HandshakesFeature:
        parts = Parts(self.federation, self.rooms, self.accounts.accounts)
        feature = HandshakesFeature(self._core, parts, enabled=config.federation.enabled)
        self.federation_inbound.transactions.end_with(feature.invited)
        self.federation_inbound.transactions.wait_for(feature.remote_rooms.under_way)
        return self._add(feature)

    def _sending(self, config: Config) -> FederationOutboundFeature:
        """After all that registers sources of EDUs."""
        enabled = config.federation.enabled
        members = self.rooms.memberships
        outbound = FederationOutboundFeature(self._core, members, self.federation, enabled=enabled)
        parts = DevicesParts(
            self.federation, self.federation_inbound, outbound, self.rooms, self.e2ee, self.to_device
        )
        self.federation_devices = self._add(
            FederationDevicesFeature(self._core, parts, enabled=enabled, named=config.federation.device_names)
        )
        self.manifests.append(self.federation.agreements.manifest(outbound.servers.joined))
        return self._add(outbound)

    def _serving(self, config: Config) -> FederationServingFeature:
        served = Served(self.federation, self.accounts, self.media, self.rooms, self.directory, self.spaces)
        return FederationServingFeature(config, self._core, served)

    def _sliding(self, config: Config) -> SlidingFeature:
        streams = Streams(
            self.to_device.stream,
            self.e2ee.key_counts,
            self.e2ee.device_lists,
            self.account_data.stream,
            self.push.stream,
            self.ephemeral.receipt_source,
            self.ephemeral.typing,
            self.threads.service,
            self.profiles.sliding,
        )
        return SlidingFeature(
            self._core,
            self.rooms,
            self.sync,
            streams,
            self.account_data.labels,
            self.account_data.ignores,
            self.presence.service,
            self.push.counts,
            config.limits,
        )

    def _add(self, feature: F) -> F:
        """The next feature; its projections hear of an entry after those of the features before it."""
        self.manifests.append(feature.manifest)
        return feature

    def _connect(self, figures: Figures) -> None:
        """What features need of others that are above or beside them."""
        connect(
            self.manifests,
            self._core.tail,
            self._core.jobs,
            self.accounts.devices,
            gate=self._core.gate,
        )
        accounts, rooms, data = self.accounts, self.rooms, self.account_data
        self.sync.notifier.confirm_with(accounts.authenticator)
        accounts.current_sessions.on_change(self.sync.notifier.session_changed)
        data.stream.always("m.push_rules", self.push.rules.account_data)
        accounts.profiles.propagate_with(rooms.own)
        accounts.registration.join_with(rooms.autojoin)
        accounts.ending.leave_with(rooms.own)
        accounts.ending.forget_with(*(each for manifest in self.manifests for each in manifest.forgets))
        self._core.visibility.erase_with(accounts.erased)
        self._core.originals.erase_with(accounts.erased)
        rooms.bundles.ignore_with(data.ignores)
        rooms.invite_by_address_with(accounts.threepids.identity)
        rooms.successors.copy_with(data.service, self.push.rules)
        self.readers = ReaderService(
            [reader for each in self.manifests for reader in each.readers],
            self._core.db,
            self._core.tail,
            self._core.entropy,
        )
        self.federation_outbound.service.run_with(self.readers)
        figures.register(self.http_metrics)
        figures.register(ReaderFigures(self.readers, self._core.tail))
        for manifest in self.manifests:
            for collector in manifest.collectors:
                figures.register(collector)

    def apis(self, loops: SupervisedLoops) -> list[object]:
        """Objects that declare endpoints. `loops`: what must run for this process to be well."""
        checks: dict[str, Check] = {
            "disk": self._room_on_disk,
            "loops": loops.check,
            "readers": self._readers_run,
        }
        if self._siblings is not None:
            checks["processes"] = self._siblings_answer
        for manifest in self.manifests:
            checks.update(manifest.checks)
        self.health = HealthApi(checks)
        own: list[object] = [self.health]
        if self._figures is not None:
            own.append(MetricsApi(self._figures.gather))
        return [*own, *(api for manifest in self.manifests for api in manifest.apis)]

    async def _siblings_answer(self) -> None:
        if self._siblings is not None and (trouble := self._siblings.trouble()) is not None:
            raise Impaired(trouble)

    async def _room_on_disk(self) -> None:
        if (trouble := self._disk.trouble()) is not None:
            raise Unwell(trouble)

    async def _readers_run(self) -> None:
        await check_readers(self.readers, self._core.db)

    async def load(self) -> None:
        """What must be in memory before anybody is answered. Raises `ConfigError`, `psycopg.Error`, `StorageError`."""
        await self.appservices.registry.load()
        await self.media.place.settle()

    def reload(self) -> None:
        """An administrator has changed files that need no restart."""
        self.appservices.registry.reload()
        self.federation.agreements.reload()

    def periodic(self) -> list[Periodic]:
        """All background work that is done again and again."""
        work = [each for manifest in self.manifests for each in manifest.periodic]
        if self._figures is not None and self._figures.shared:
            work.append(every(WRITE_EVERY, self._figures.write, name="figures", first=0.0))
        return work

    @property
    def hints(self) -> dict[LiteralString, Callable[[str], None]]:
        """By channel of the database: who hears other processes there."""
        return {name: call for manifest in self.manifests for name, call in manifest.hints.items()}

    def closing(self) -> None:
        """The server stops: long polls answer."""
        for manifest in self.manifests:
            for call in manifest.closing:
                call()

    async def stop(self) -> None:
        """What must be written before the database is closed."""
        if self._figures is not None:
            self._figures.withdraw()
        for manifest in self.manifests:
            for call in manifest.stop:
                await call()
