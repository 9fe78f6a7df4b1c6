"""All features, put together. Each has a file of its own beside this one."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.graph.state import upkeep
from homeserver.log.forgetting import EVERY_SECONDS as FORGET_EVERY
from homeserver.log.forgetting import Forgetting
from homeserver.runtime.figures import WRITE_EVERY, Figures, Gauge, Gauges
from homeserver.runtime.periodic import Periodic, every
from homeserver.runtime.supervised import SupervisedLoops
from homeserver.runtime.worker import Siblings
from homeserver.sync.types import Stream
from homeserver.web.metrics import HttpMetrics
from homeserver.web.rate_limit import RateLimiter
from homeserver.web.system_api import Check, HealthApi, Impaired, MetricsApi
from homeserver.wiring.account_data import AccountDataFeature
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.core import Core
from homeserver.wiring.dehydrated import DehydratedFeature
from homeserver.wiring.directory import DirectoryFeature
from homeserver.wiring.e2ee import E2eeFeature
from homeserver.wiring.ephemeral import EphemeralFeature
from homeserver.wiring.key_backup import KeyBackupFeature
from homeserver.wiring.presence import PresenceFeature
from homeserver.wiring.push import NotificationsFeature, PushFeature
from homeserver.wiring.relations import RelationsFeature
from homeserver.wiring.rooms import RoomsFeature
from homeserver.wiring.sync import SyncFeature
from homeserver.wiring.to_device import ToDeviceFeature


class Features:
    """Built once per process."""

    def __init__(
        self,
        config: Config,
        core: Core,
        limiter: RateLimiter,
        figures: Figures,
        siblings: Siblings | None = None,
    ) -> None:
        self._core = core
        self.forgetting = Forgetting(core.db, core.clock)
        self._siblings = siblings
        self.http_metrics = HttpMetrics()
        self._figures = figures if config.metrics.enabled else None
        self.accounts = AccountsFeature(config, core, limiter)
        self.account_data = AccountDataFeature(core)
        self.rooms = RoomsFeature(config, core, self.accounts.profiles, self.account_data.invites)
        self.directory = DirectoryFeature(config, core, self.rooms)
        self.ephemeral = EphemeralFeature(core, self.account_data)
        self.presence = PresenceFeature(config, core, self.rooms.memberships, self.accounts.profiles)
        self.to_device = ToDeviceFeature(config, core, self.accounts.devices, limiter)
        self.push = PushFeature(core, self.account_data.service)
        self.account_data.stream.always("m.push_rules", self.push.rules.account_data)
        self.notifications = NotificationsFeature(
            core, self.push, self.rooms.memberships, self.account_data.ignores
        )
        self.relations = RelationsFeature(core, self.rooms)
        self.key_backup = KeyBackupFeature(core)
        self.e2ee = E2eeFeature(core, self.accounts, self.rooms)
        self.dehydrated = DehydratedFeature(core, self.accounts, self.e2ee, self.to_device)
        streams: list[Stream] = [
            self.account_data.stream,
            self.ephemeral.stream,
            self.presence.stream,
            self.to_device.stream,
            self.push.stream,
            *self.e2ee.streams,
        ]
        self.sync = SyncFeature(
            core,
            self.rooms,
            streams,
            self.account_data.ignores,
            self.presence.service,
            self.push.counts,
            self.account_data.service,
            config.limits,
            {"presence": self.presence.stream, "account_data": self.account_data.stream},
        )
        self._connect()
        self.authenticator = self.accounts.authenticator
        figures.register(self.http_metrics)
        figures.register(Gauges(self._gauges()))
        figures.register(core.jobs.figures)

    def _connect(self) -> None:
        """What features need of others that are above or beside them."""
        accounts, rooms, data = self.accounts, self.rooms, self.account_data
        self.sync.notifier.confirm_with(accounts.authenticator)
        accounts.current_sessions.on_change(self.sync.notifier.session_changed)
        accounts.profiles.propagate_with(rooms.own)
        accounts.registration.join_with(rooms.autojoin)
        accounts.ending.leave_with(rooms.own)
        accounts.ending.forget_with(
            accounts.threepids.service,
            data.service,
            self.push.rules,
            self.sync.filters,
            self.key_backup.service,
            self.e2ee.cross_signing,
        )
        self._core.visibility.erase_with(accounts.erased)
        rooms.bundles.ignore_with(data.ignores)
        rooms.successors.copy_with(data.service, self.push.rules)

    def apis(self, loops: SupervisedLoops) -> list[object]:
        """Objects that declare endpoints. `loops`: what must run for this process to be well."""
        checks: dict[str, Check] = {"database": self._database_answers, "loops": loops.check}
        if self._siblings is not None:
            checks["processes"] = self._siblings_answer
        own: list[object] = [HealthApi(checks)]
        if self._figures is not None:
            own.append(MetricsApi(self._figures))
        features = (
            self.accounts,
            self.account_data,
            self.rooms,
            self.directory,
            self.ephemeral,
            self.presence,
            self.to_device,
            self.e2ee,
            self.dehydrated,
            self.key_backup,
            self.push,
            self.notifications,
            self.relations,
            self.sync,
        )
        return [*own, *(api for feature in features for api in feature.apis())]

    async def _siblings_answer(self) -> None:
        if self._siblings is not None and (trouble := self._siblings.trouble()) is not None:
            raise Impaired(trouble)

    async def _database_answers(self) -> None:
        async with self._core.db.read() as tx:
            await tx.value("SELECT 1")

    def _gauges(self) -> list[Gauge]:
        core, waiting = self._core, self.sync.notifier
        return [
            (
                "atrium_log_position",
                "The last entry of the log that this process has seen",
                lambda: core.tail.position,
            ),
            ("atrium_log_appends_waiting", "Appends that are not written yet", lambda: core.log.waiting),
            ("atrium_database_connections_used", "Database connections at work", lambda: core.db.used),
            ("atrium_database_waiting", "Tasks that wait for a database connection", lambda: core.db.waiting),
            (
                "atrium_database_nested",
                "Second connections that were asked for by who held one: a fault of the server",
                lambda: core.db.nested,
            ),
            (
                "atrium_projections_dropped",
                "Projections that were dropped because entries were missed or a handler failed",
                lambda: core.tail.resets,
            ),
            ("atrium_syncs_waiting", "Long polls under way", lambda: waiting.waiting),
        ]

    def periodic(self) -> list[Periodic]:
        """All background work that is done again and again."""
        core, figures = self._core, self._figures
        own = [
            every(FORGET_EVERY, self.forgetting.forget, name="log.forgetting", once_in_cluster=True),
            every(60.0, core.compaction.drain, name="graph.compaction", wake=core.compaction.wake),
            every(
                upkeep.EVERY,
                core.upkeep.once,
                name="graph.upkeep",
                once_in_cluster=True,
                first=upkeep.FIRST_AFTER,
                timeout=upkeep.LONGEST,
            ),
        ]
        if figures is not None and figures.shared:
            own.append(every(WRITE_EVERY, figures.write, name="figures", first=0.0))
        return [
            *own,
            *core.jobs.periodic(),
            *self.accounts.periodic(),
            *self.rooms.periodic(),
            *self.ephemeral.periodic(),
            *self.presence.periodic(),
            *self.to_device.periodic(),
        ]

    async def start(self) -> None:
        """What must be loaded before the first request."""

    def closing(self) -> None:
        """The server stops: long polls answer."""
        self.sync.closing()

    async def stop(self) -> None:
        """What must be written before the database is closed."""
        if self._figures is not None:
            self._figures.withdraw()
        await self.accounts.stop()
