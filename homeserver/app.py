"""The composition root: config -> database -> log -> graph -> features -> listeners and loops. Plain constructors.

Nobody receives this object; what a feature needs is handed to it here.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from math import ceil
from typing import Any

import structlog

from homeserver.config import Config
from homeserver.log.host.election import Host, HostFolder
from homeserver.runtime import key_change, shared_buckets, shared_loads, signing_key
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.runtime.fair_queue import FairQueue
from homeserver.runtime.figures import Figures, Gauges
from homeserver.runtime.periodic import PeriodicRunner, every
from homeserver.runtime.shared_buckets import SharedBuckets
from homeserver.runtime.shared_loads import SharedLoads
from homeserver.runtime.shared_positions import PATH
from homeserver.runtime.supervised import SupervisedLoops
from homeserver.runtime.worker import Siblings
from homeserver.storage import owner
from homeserver.storage.claim import HOST, LOOK_EVERY, PROCESS, Claim, DatabaseTaken
from homeserver.storage.connection import Timeouts
from homeserver.storage.database import Database
from homeserver.storage.listen import listen
from homeserver.storage.owner import PublicKey
from homeserver.web import settings
from homeserver.web.dispatch import Parts
from homeserver.web.metrics import HttpMetrics
from homeserver.web.observe import Observer
from homeserver.web.registry import Registry
from homeserver.web.resources import Resource
from homeserver.web.response_writer import ResponseWriter
from homeserver.web.server import WebServer
from homeserver.web.steering import FOLDER, Steering
from homeserver.web.stream import ClientTimeouts
from homeserver.wiring.core import Core
from homeserver.wiring.features import Features

log = structlog.get_logger(__name__)


class App:
    """One serving process. `start`, then `stop`; everything in between is its own."""

    def __init__(self, config: Config, *, siblings: Siblings | None = None, worker: int = 0) -> None:
        """`config.database.url` names the database, migrated. `siblings`: other processes, who listen there too.

        `worker`: which of them this is.
        """
        self.config = config
        self._worker = worker
        self._siblings = siblings
        self.clock = SystemClock()
        self.entropy = Entropy()
        self._stack = AsyncExitStack()
        self._stopped = False
        self.loops = SupervisedLoops(self.clock)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what ends this process."""
        self._host: Host | None = None
        self._host_claim: Claim | None = None
        self.core: Core
        self.features: Features
        self.periodic: PeriodicRunner
        self.registry: Registry
        self.web: WebServer

    async def start(self) -> None:
        """Connect, load, listen. Raises what stands in the way, with nothing left running."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        dsn = self.config.database.url
        assert dsn is not None
        section = self.config.database
        timeouts = Timeouts(
            statement=ceil(section.statement_timeout),
            lock=ceil(section.lock_timeout),
            several_hosts=section.shared,
        )
        db = Database(dsn, size=section.pool_size, timeouts=timeouts)
        await db.open()
        self._stack.push_async_callback(db.close)
        key = signing_key.load_or_create(self.config.server.signing_key, self.entropy)
        alone = self.config.server.processes == 1 and not section.shared
        claim = Claim(dsn, self.clock, alone=alone, locks=(PROCESS, HOST) if section.shared else (PROCESS,))
        await claim.take()
        self._claim = claim
        self._stack.push_async_callback(claim.release)
        key = await key_change.current(db, self.config.server.signing_key, key)
        await owner.settle(db, self.config.server.name, PublicKey(key.key_id, key.public_key))
        self.limiter = settings.limiter(self.config.rate_limits, self.clock, self._buckets())
        self.core = Core(self.config, db, key, self.clock, self.entropy, alone=alone)
        several = self.config.server.processes > 1
        if several:
            self._join_host(dsn)
        folder = self.config.server.data_dir / "run" / "figures" if several else None
        figures = Figures(self.clock, worker=self._worker, folder=folder)
        self.features = Features(self.config, self.core, self.limiter, figures, self._siblings)
        await self.core.tail.start()
        await self.features.readers.declare()
        self._begin(dsn, figures)
        if self._host is not None:
            await self._placed(self._host)
        await self.features.load()
        self.registry = Registry(settings.bounds(self.config.limits))
        self.registry.add(*self.features.apis(self.loops))
        self.web = self._web_server(alone=alone, steering=self._steering(figures))
        await self.web.start(
            [settings.listener(each, reuse_port=self._siblings is not None) for each in self.config.listeners]
        )

    async def drain(self) -> None:
        """Go on as before for the configured time, while load balancers hear that nothing more shall be sent here."""
        if self.config.limits.drain > 0:
            self.features.health.draining = True
            log.info("draining", seconds=self.config.limits.drain)
            await self.clock.sleep(self.config.limits.drain)

    async def stop(self) -> None:
        """Finish requests, write what waits, close. Idempotent: what was closed stays closed."""
        if self._stopped:
            return
        if hasattr(self, "features"):
            self.features.closing()
        if hasattr(self, "web"):
            await self.web.stop(grace=max(1.0, self.config.limits.shutdown - 2))
        if hasattr(self, "periodic"):
            await asyncio.gather(self.periodic.stop(), self.core.jobs.stop())
        if hasattr(self, "core"):
            self.core.log.close()
        await self.loops.finish("log.writer", within=2)
        if hasattr(self, "features"):
            await self.features.stop()
        await self.loops.stop()
        self._stopped = True
        await self._stack.aclose()

    def reload(self) -> None:
        """Read TLS certificates, registrations of application services and what was agreed with partners anew; what cannot be read
        leaves what is in use.
        """
        self.features.reload()
        try:
            self.web.reload_certificates()
        except OSError as error:  # ssl.SSLError is one
            log.error("certificates_not_reloaded", error=str(error))  # noqa: TRY400  # the sentence says it all
        else:
            log.info("certificates_reloaded")

    @property
    def url(self) -> str:
        """Base URL of the first listener that carries the client API."""
        for listener, host, port in self.web.addresses:
            if Resource.CLIENT in listener.resources and port:
                scheme = "https" if listener.tls else "http"
                return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        raise LookupError("no listener carries the client API")

    async def failed(self) -> None:
        """Returns only by raising `DatabaseTaken`: another server serves from the database. No fault of a loop ends us."""
        await self._over

    def _buckets(self) -> SharedBuckets | None:
        """What all processes of the host count against limits; None: this one is alone."""
        path = self.config.server.data_dir / shared_buckets.PATH
        if self.config.server.processes == 1 or not path.exists():
            return None
        buckets = SharedBuckets(path)
        self._stack.callback(buckets.close)
        return buckets

    def _steering(self, figures: Figures) -> Steering | None:
        """Which connections come to this process; None: those that the kernel gives it."""
        section, host = self.config.server, self._host
        if host is None or self._siblings is None or section.spread == "evenly":
            return None
        loads = SharedLoads(section.data_dir / shared_loads.PATH, self._worker, section.processes)
        self._stack.callback(loads.close)
        steering = Steering(section.data_dir / FOLDER, loads, self.clock, lambda: host.leads)
        what = "Whether connections come to this process"
        moved = "Connections that were handed to other processes since the start"
        figures.register(
            Gauges(
                [
                    ("atrium_process_serves", what, lambda: float(steering.serves)),
                    ("atrium_connections_handed_on", moved, lambda: float(steering.moved)),
                ]
            )
        )
        return steering

    def _join_host(self, dsn: str) -> None:
        """Several processes serve here: one of them writes for the others."""
        complete = not self.config.database.shared
        section = self.config.server
        folder = HostFolder(section.data_dir / PATH.parent, self._worker, section.processes, complete)
        core = self.core
        self._host = Host(folder, core.db, core.tail, core.log, self.clock, self.entropy)
        self._host.attentive = lambda: self.features.sync.notifier.waiting > 0
        self._stack.callback(self._host.close)
        if complete:
            self._host_claim = Claim(dsn, self.clock, alone=True, locks=(HOST,))
            self._stack.push_async_callback(self._host_claim.release)
            self._host.lead = self._lead_host

    async def _lead_host(self) -> None:
        """No other host may serve: what its processes write would not be seen here. Called by the process that leads."""
        assert self._host_claim is not None
        try:
            await self._host_claim.take()
        except DatabaseTaken as error:
            self._end_with(error)
            raise

    async def _placed(self, host: Host) -> None:
        """Wait until the process leads or follows. Raises `DatabaseTaken`: another host serves."""
        placed = asyncio.ensure_future(host.placed.wait())
        either: set[asyncio.Future[Any]] = {placed, self._over}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():
                self._over.result()
        finally:
            placed.cancel()

    def _end_with(self, error: DatabaseTaken) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def _begin(self, dsn: str, figures: Figures) -> None:
        """All that runs beside requests. What is done again and again is declared by the features."""
        self.loops.start("log.writer", self.core.log.run)
        self.loops.start("log.tail", self.core.tail.run)
        if (host := self._host) is not None:
            self.loops.start("log.host", host.run)
            what = "Whether this process writes for the others of its host"
            figures.register(Gauges([("atrium_log_leads", what, lambda: float(host.leads))]))
        self.loops.start("log.hints", lambda: self._follow_hints(dsn))
        self.loops.start("log.readers", self.features.readers.run)
        claim = every(LOOK_EVERY, self._hold_claim, name="database.claim", timeout=60.0)
        work = [claim, *self.features.periodic()]
        self.periodic = PeriodicRunner(work, self.core.db, self.clock, self.entropy)
        self.periodic.start()
        figures.register(self.loops)
        figures.register(self.periodic)

    async def _hold_claim(self) -> None:
        try:
            await self._claim.hold()
            if self._host is not None and self._host.leads and self._host_claim is not None:
                await self._host_claim.hold()
        except DatabaseTaken as error:
            self._end_with(error)
            raise

    async def _follow_hints(self, dsn: str) -> None:
        hints = self.features.hints
        async for channel, payload in listen(dsn, "atrium_log", *hints):
            if channel in hints:
                hints[channel](payload)
            else:
                self.core.tail.hint(int(payload) if payload else None)

    def _web_server(self, *, alone: bool, steering: Steering | None) -> WebServer:
        timeouts = ClientTimeouts()
        parts = Parts(
            authenticator=self.features.authenticator,
            server_authenticator=self.features.server_authenticator,
            limiter=self.limiter,
            observer=Observer(
                self.clock,
                self.features.http_metrics,
                settings.request_line(self.config.log, self.clock),
            ),
            writer=ResponseWriter(self.clock, timeouts),
            timeouts=timeouts,
            queue=FairQueue(self.config.limits.requests_at_once),
            contact=self.config.server.contact_uri,
            # A client that was answered by another process must see here what it did there.
            fresh=None if alone else self.core.tail.fresh,
        )
        bounds = self.config.limits
        return WebServer(
            self.registry,
            parts,
            self.entropy,
            max_connections=bounds.connections,
            max_per_client=bounds.connections_per_client,
            steering=steering,
        )


async def serve(config: Config, *, siblings: Siblings | None, worker: int, ready: Callable[[], None]) -> None:
    """Serve until cancelled, then end in good order. See `runtime.worker.Serve`."""
    structlog.contextvars.bind_contextvars(worker=worker)
    app = App(config, siblings=siblings, worker=worker)
    await app.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.reload)
    try:
        ready()
        try:
            await app.failed()
        except asyncio.CancelledError:
            await app.drain()
            raise
    finally:
        await app.stop()


__all__ = ["App", "HttpMetrics", "serve"]
