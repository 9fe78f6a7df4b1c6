"""What stands under all features: the log, and the event graph."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.read.visibility import VisibilityFilter
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.state.compaction import Compaction
from homeserver.graph.state.resolver import StateResolver
from homeserver.graph.state.store import StateStore
from homeserver.graph.state.upkeep import StateUpkeep
from homeserver.graph.write.append import GraphWriter, Identity
from homeserver.graph.write.forward_extremities import ForwardExtremities
from homeserver.graph.write.receive import Receiver
from homeserver.graph.write.redactions import Redactions
from homeserver.graph.write.sink import EventSink
from homeserver.jobs.service import Jobs
from homeserver.log.tail import Tail
from homeserver.log.transactions import Transactions
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import SigningKey
from homeserver.runtime.clock import Clock, Entropy
from homeserver.storage.database import Database
from homeserver.wiring.sinks import feature_sinks


class Core:
    """Built once per process, in this order."""

    def __init__(
        self, config: Config, db: Database, key: SigningKey, clock: Clock, entropy: Entropy, *, alone: bool
    ) -> None:
        self.server_name = ServerName(config.server.name)
        self.db = db
        self.clock = clock
        self.entropy = entropy
        self.identity = Identity(self.server_name, key)
        self.interning = Interning(db)
        self.events = EventCache(db, self.interning)
        self.states = StateStore(db)
        self.tail = Tail(db, [EventSink(self.events), *feature_sinks()], alone=alone)
        self.log = LogWriter(db, self.tail, clock)
        self.transactions = Transactions(db)
        self.jobs = Jobs(db, clock, entropy)
        self.rooms = Rooms(db, self.tail, self.interning, self.events, self.server_name)
        self.tail.attach(self.rooms)
        self.graph = GraphWriter(
            self.log, self.tail, self.rooms, self.events, self.interning, self.identity, clock
        )
        self.receiver = Receiver(
            self.log,
            self.rooms,
            self.events,
            self.states,
            StateResolver(db, self.events, self.states, self.interning),
            self.interning,
            ForwardExtremities(self.graph, self.rooms, self.events),
            Redactions(db, self.events, self.states, self.interning),
            self.server_name,
        )
        self.compaction = Compaction(db)
        self.tail.attach(self.compaction)
        self.upkeep = StateUpkeep(db, clock)
        self.visibility = VisibilityFilter(db, self.interning, self.events, self.states)
