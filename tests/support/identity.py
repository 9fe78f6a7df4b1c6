"""Accounts, authentication, devices and profiles served over HTTP on a database, without the rest of the server.

Time and application services are given, which the whole server does not allow; several may share one database, as
the processes of one server do.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from homeserver.config import Config
from homeserver.config.load import build
from homeserver.jobs.service import Jobs
from homeserver.log.entries import Sink
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import ServerName
from homeserver.policy.gate import Gate
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock, Entropy, SystemClock
from homeserver.runtime.periodic import PeriodicRunner
from homeserver.sessions.ports import Appservices
from homeserver.storage.database import Database
from homeserver.to_device.entries import ToDeviceSink
from homeserver.web.dispatch import Parts
from homeserver.web.listener import Listener
from homeserver.web.metrics import HttpMetrics
from homeserver.web.observe import Observer
from homeserver.web.rate_limit import Rate, RateLimiter
from homeserver.web.registry import Registry
from homeserver.web.response_writer import ResponseWriter
from homeserver.web.server import WebServer
from homeserver.web.stream import ClientTimeouts
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.e2ee import KEY_SINKS
from homeserver.wiring.manifest import connect
from tests.support.server import Server

_CHEAP = {"password_hash": {"memory": "8K", "passes": 1}, "login_tokens": True}
_OPEN = {
    "enabled": True,
    "flows": [["dummy"]],
    "open_without_checks": True,
    "guests": True,
    "shared_secret": "dev",
}


@dataclass
class IdentityServer(Server):
    """A `Server` whose parts a test may look at."""

    identity: AccountsFeature | None = None
    db: Database | None = None
    tail: Tail | None = None
    runner: PeriodicRunner | None = None
    jobs: Jobs | None = None

    def die(self) -> None:
        """As a process that is killed, but for requests under way: it does nothing by itself any more."""
        assert self.runner is not None
        assert self.jobs is not None
        for task in (*self.runner._tasks.values(), *(each.task for each in self.jobs._running.values())):
            task.cancel()

    async def all_jobs_are_due(self) -> None:
        """As if their leases and pauses had passed; they are begun at once."""
        assert self.db is not None
        assert self.jobs is not None
        async with self.db.transaction() as tx:
            await tx.execute("UPDATE jobs SET due_at = now()")
        self.jobs.wake()

    @property
    def parts(self) -> AccountsFeature:
        assert self.identity is not None
        return self.identity


def config_of(**sections: Any) -> Config:
    """Open registration, cheap hashes, no rate limits; `sections` change single options."""
    raw: dict[str, Any] = {
        "server": {"name": "localhost"},
        "auth": dict(_CHEAP),
        "registration": dict(_OPEN),
        "rate_limits": {"enabled": False},
    }
    for name, options in sections.items():
        raw[name] = {**raw.get(name, {}), **options}
    return build(raw, source="test", base=Path())


@contextlib.asynccontextmanager
async def run(
    dsn: str,
    *,
    clock: Clock | None = None,
    appservices: Appservices | None = None,
    alone: bool = True,
    sinks: Sequence[Sink[Any]] = (),
    **sections: Any,
) -> AsyncIterator[IdentityServer]:
    """Serve on a free loopback port until the block ends."""
    config = config_of(**sections)
    clock = clock or SystemClock()
    async with Database(dsn, size=6) as db:
        tail = Tail(db, [*KEY_SINKS, ToDeviceSink(), *sinks], alone=alone)
        log = LogWriter(db, tail, clock)
        limiter = RateLimiter(clock, _rates(config))
        core = SimpleNamespace(
            db=db,
            log=log,
            tail=tail,
            jobs=Jobs(db, clock, Entropy()),
            gate=Gate(clock),
            memory=MemoryBudget(config.limits.caches),
            clock=clock,
            entropy=Entropy(),
            server_name=ServerName("localhost"),
        )
        identity = AccountsFeature(config, core, limiter, appservices)
        identity.ending.forget_with(identity.threepids.service)
        connect((identity.manifest,), tail, core.jobs, gate=core.gate)
        await tail.start()
        web = _web(identity, limiter)
        running = [asyncio.create_task(log.run()), asyncio.create_task(tail.run())]
        runner = PeriodicRunner([*core.jobs.periodic(), *identity.manifest.periodic], db, clock, Entropy())
        runner.start()
        await web.start([Listener(port=0)])
        _, host, port = web.addresses[0]
        server = IdentityServer(
            f"http://{host}:{port}", dsn, identity=identity, db=db, tail=tail, runner=runner, jobs=core.jobs
        )
        try:
            yield server
        finally:
            await server.close()
            await web.stop(grace=1)
            await asyncio.gather(runner.stop(), core.jobs.stop())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await identity.stop()


def _rates(config: Config) -> dict[str, Rate]:
    if not config.rate_limits.enabled:
        return {}
    rates = {
        name: getattr(config.rate_limits, name)
        for name in ("login", "login_failed", "registration", "ui_auth", "mail")
    }
    return {name: Rate(rate.per_second, rate.burst) for name, rate in rates.items() if rate is not None}


def _web(identity: AccountsFeature, limiter: RateLimiter) -> WebServer:
    registry = Registry()
    registry.add(*identity.manifest.apis)
    clock = SystemClock()
    timeouts = ClientTimeouts()
    parts = Parts(
        authenticator=identity.authenticator,
        server_authenticator=None,
        limiter=limiter,
        observer=Observer(clock, HttpMetrics(), None),
        writer=ResponseWriter(clock, timeouts),
        timeouts=timeouts,
    )
    return WebServer(registry, parts, Entropy())
