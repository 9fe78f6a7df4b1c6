"""What stands under all features: the log, and the event graph."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.read.visibility import VisibilityFilter
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.state import upkeep
from homeserver.graph.state.compaction import Compaction
from homeserver.graph.state.states import StateStore
from homeserver.graph.state.upkeep import StateUpkeep
from homeserver.graph.write.adopt import Adoption
from homeserver.graph.write.append import GraphWriter, Identity
from homeserver.graph.write.backfill import Backfill
from homeserver.graph.write.backfill_sink import BackfillSink
from homeserver.graph.write.beside import MembershipsBeside
from homeserver.graph.write.ended_stays import REDACT_STAY, EndedStays, RedactedSink
from homeserver.graph.write.forward_extremities import ForwardExtremities
from homeserver.graph.write.originals import RedactedOriginals
from homeserver.graph.write.outliers import Outliers
from homeserver.graph.write.receive import Receiver
from homeserver.graph.write.receive_material import Sources
from homeserver.graph.write.relink import Relinker
from homeserver.graph.write.sink import EventSink
from homeserver.graph.write.sticky import LOOK_EVERY, StickyAcceptedSink, StickyEvents
from homeserver.jobs.service import Jobs
from homeserver.log.forgetting import EVERY_SECONDS as FORGET_EVERY
from homeserver.log.forgetting import Forgetting
from homeserver.log.tail import Tail
from homeserver.log.transactions import Transactions
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import SigningKey
from homeserver.policy.gate import Gate
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock, Entropy
from homeserver.runtime.computing import END_EVERY, ComputeProcesses
from homeserver.runtime.figures import CacheFigures, Gauge, Gauges
from homeserver.runtime.key_change import KeyWatch
from homeserver.runtime.periodic import every
from homeserver.storage.database import Database
from homeserver.wiring.manifest import Manifest


class Core:
    """What all features stand on, put together in this order."""

    def __init__(
        self, config: Config, db: Database, key: SigningKey, clock: Clock, entropy: Entropy, *, alone: bool
    ) -> None:
        self.server_name = ServerName(config.server.name)
        self.db = db
        self.clock = clock
        self.entropy = entropy
        self.identity = Identity(self.server_name, key)
        self.key_watch = KeyWatch(db, config.server.signing_key, key, self._sign_with)
        self.memory = MemoryBudget(config.limits.caches)
        self.interning = Interning(db, self.memory)
        self.events = EventCache(db, self.interning, self.memory)
        self.states = StateStore(db, self.memory)
        self.tail = Tail(db, alone=alone)
        self.log = LogWriter(db, self.tail, clock)
        self.log.several_hosts = config.database.shared
        self.transactions = Transactions(db, self.memory)
        self.jobs = Jobs(db, clock, entropy)
        self.rooms = Rooms(db, self.tail, self.interning, self.events, self.server_name, self.memory)
        self.gate = Gate(clock)
        self.graph = GraphWriter(
            self.log, self.tail, self.rooms, self.events, self.interning, self.identity, clock
        )
        sources = Sources.of(db, self.events, self.states, self.interning)
        extremities = ForwardExtremities(self.graph, self.rooms, self.events)
        self.receiver = Receiver(self.log, self.rooms, sources, extremities, self.gate, self.server_name)
        self.backfill = Backfill(self.log, self.rooms, sources, extremities, self.gate, self.server_name)
        self.computing = ComputeProcesses(
            clock, modules=["federation.keys.judging", "homeserver.graph.write.auth_order"]
        )
        self.outliers = Outliers(db, self.events, self.interning, self.computing)
        self.beside = MembershipsBeside(db, self.log, self.rooms, self.events, self.interning)
        self.adoption = Adoption(
            db,
            self.log,
            self.rooms,
            self.events,
            self.interning,
            self.outliers,
            self.beside,
            self.server_name,
        )
        self.ended_stays = EndedStays(
            db, self.log, self.tail, self.events, self.interning, sources.redactions, self.jobs
        )
        self.originals = RedactedOriginals(db, self.tail, config.rooms.redacted_originals)
        self._keep_originals = config.rooms.redacted_originals > 0
        self.compaction = Compaction(db)
        self.upkeep = StateUpkeep(db, clock)
        self.visibility = VisibilityFilter(db, self.interning, self.events, self.states, self.memory)
        self.sticky = StickyEvents(db, self.events, self.rooms, self.log, clock)
        self.forgetting = Forgetting(db, clock)

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="core",
            sinks=[
                EventSink(
                    self.events,
                    self.rooms.cached,
                    Relinker(self.identity),
                    keep_originals=self._keep_originals,
                    now_ms=self.clock.now_ms,
                ),
                StickyAcceptedSink(),
                BackfillSink(self.events, keep_originals=self._keep_originals),
                RedactedSink(self.events, keep_originals=self._keep_originals),
            ],
            projections=[self.rooms, self.compaction, self.visibility, self.sticky, self.ended_stays],
            jobs={REDACT_STAY: self.ended_stays.redact},
            periodic=[
                self.key_watch.periodic(),
                *self.jobs.periodic(),
                every(FORGET_EVERY, self.forgetting.forget, name="log.forgetting", once_in_cluster=True),
                every(60.0, self.compaction.drain, name="graph.compaction", wake=self.compaction.wake),
                every(
                    upkeep.EVERY,
                    self.upkeep.once,
                    name="graph.upkeep",
                    once_in_cluster=True,
                    first=upkeep.FIRST_AFTER,
                    timeout=upkeep.LONGEST,
                ),
                self.originals.periodic(),
                every(LOOK_EVERY, self.sticky.look_again, name="graph.sticky", wake=self.sticky.wake),
                every(LOOK_EVERY, self.sticky.delete_ended, name="graph.sticky_ended", once_in_cluster=True),
                every(END_EVERY, self.computing.end_idle, name="computing.end_idle"),
            ],
            stop=[self.computing.close],
            forgets=[self.originals],
            collectors=[Gauges(self._gauges()), self.gate, CacheFigures(self.memory), self.jobs.figures],
            checks={"database": self._database_answers},
        )

    def _sign_with(self, key: SigningKey) -> None:
        self.identity.key = key

    async def _database_answers(self) -> None:
        async with self.db.read() as tx:
            await tx.value("SELECT 1")

    def _gauges(self) -> list[Gauge]:
        return [
            (
                "atrium_log_position",
                "The last entry of the log that this process has seen",
                lambda: self.tail.position,
            ),
            ("atrium_log_appends_waiting", "Appends that are not written yet", lambda: self.log.waiting),
            ("atrium_database_connections_used", "Database connections at work", lambda: self.db.used),
            ("atrium_database_waiting", "Tasks that wait for a database connection", lambda: self.db.waiting),
            (
                "atrium_database_nested",
                "Second connections that were asked for by who held one: a fault of the server",
                lambda: self.db.nested,
            ),
            (
                "atrium_projections_dropped",
                "Projections that were dropped because entries were missed or a handler failed",
                lambda: self.tail.resets,
            ),
        ]
