"""What was agreed with other servers, put together; and read again while the server serves."""

from __future__ import annotations

import asyncio

import structlog

from federation.partners import activity as activities
from federation.partners.activity import Activity
from federation.partners.check import JoinedServers, PartnerCheck
from federation.partners.rooms import RoomsHere
from federation.partners.service import PartnerPolicy
from homeserver.config import Config, ConfigError, load
from homeserver.runtime.periodic import every
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest

log = structlog.get_logger(__name__)

RELOAD_EVERY = 3_600.0
"""Seconds; it is done when it is asked for, and at no other time."""


class PartnersFeature:
    """`policy` is what everything else asks."""

    def __init__(self, config: Config, core: Core, limiter: RateLimiter) -> None:
        self._config = config
        self._core = core
        self._rooms = RoomsHere(core.db, core.memory)
        self._activity = Activity(core.db, core.clock)
        self.policy = PartnerPolicy(
            config.federation, self._rooms, self._activity, limiter, config.outbound.extra_ca_files
        )
        self._asked = asyncio.Event()
        self._due = False

    def reload(self) -> None:
        """Have the configuration read again, soon: federation.allow, .deny and .partners of it take effect."""
        self._due = self._config.source is not None
        self._asked.set()

    async def _reload(self) -> None:
        """Once. What cannot be used leaves what is in force."""
        source = self._config.source
        if not self._due or source is None:
            return
        self._due = False
        try:
            config = await asyncio.to_thread(load, source)
        except ConfigError as error:
            log.error("federation.partners_not_reloaded", error=str(error))  # noqa: TRY400  # the sentences say it all
            return
        changed = self._config.with_partners_of(config)
        self.policy.replace(changed.federation)
        self._config = changed
        log.info("federation.partners_reloaded", partners=len(changed.federation.partners))

    def manifest(self, joined: JoinedServers) -> Manifest:
        """See `Manifest`. `joined`: which servers are in a room."""
        core, enabled = self._core, self._config.federation.enabled
        check = PartnerCheck(self.policy, core.rooms, joined, core.server_name)
        return Manifest(
            name="federation.partners",
            projections=[self._rooms],
            policy=[check.check] if enabled else [],
            periodic=[
                every(RELOAD_EVERY, self._reload, name="federation.partners", wake=self._asked),
                every(activities.EVERY, self._activity.write, name="federation.activity"),
                every(
                    activities.FORGET_EVERY,
                    self._activity.forget,
                    name="federation.activity_forget",
                    once_in_cluster=True,
                ),
            ],
            collectors=[self.policy.refusals],
            stop=[self._activity.write],
        )
