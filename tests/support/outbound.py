"""The sender on a process without HTTP, and other servers that a test scripts: no network, no signatures.

async with process(database, tmp_path) as here, sending(here, others) as outbound: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec

from federation.outbound.service import Outbound
from federation.partners.activity import Activity
from federation.partners.rooms import RoomsHere
from federation.partners.service import PartnerPolicy
from federation.ports import Answer, Ask, Unreachable
from federation.transport.backoff import Backoff as Pauses
from homeserver.config.federation import FederationSection
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.readers.service import ReaderService
from homeserver.log.readers.types import Backoff
from homeserver.matrix.ids import RoomId, ServerName
from homeserver.runtime.clock import Clock, Entropy
from homeserver.runtime.periodic import PeriodicRunner
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.federation_outbound import FederationOutboundFeature
from tests.support.forks import Fork
from tests.support.graph import Process

QUICK = Backoff(first=0.02, longest=0.2)


@dataclass(frozen=True)
class Sent:
    """A transaction that reached a server."""

    destination: str
    txn_id: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def texts(self) -> list[str]:
        """The bodies of messages, and `type membership` of other events."""
        return [_told(pdu) for pdu in self.json["pdus"]]


def _told(pdu: Any) -> str:
    content = pdu["content"]
    return str(content.get("body") or f"{pdu['type']} {content.get('membership', '')}".strip())


Script = Callable[[Sent], Awaitable[dict[str, Any] | None]]


class Others:
    """All other servers: they take everything, but for those that are scripted."""

    def __init__(self) -> None:
        self.asked: list[Sent] = []
        """All that came, answered or not."""
        self.taken: dict[str, list[Sent]] = defaultdict(list)
        """What was answered with 200, by server."""
        self.scripts: dict[str, Script] = {}
        self.away: set[str] = set()
        self.at_once: dict[str, int] = defaultdict(int)
        self.most_at_once = 0

    async def ask(self, destination: ServerName, ask: Ask, answer: type[Any]) -> Any:
        assert ask.method == "PUT"
        assert isinstance(ask.content, msgspec.Raw)
        assert ask.path[:4] == ("_matrix", "federation", "v1", "send")
        sent = Sent(destination, ask.path[4], bytes(ask.content))
        assert len(sent.json["pdus"]) <= 50, "FED-08"
        assert len(sent.json["edus"]) <= 100, "FED-08"
        assert sent.body == msgspec.json.encode(sent.json, order="sorted"), "canonical JSON, as it is signed"
        self.asked.append(sent)
        self.at_once[destination] += 1
        self.most_at_once = max(self.most_at_once, self.at_once[destination])
        try:
            if destination in self.away:
                raise Unreachable(destination, "no answer in time")
            script = self.scripts.get(destination)
            said = await script(sent) if script is not None else None
        finally:
            self.at_once[destination] -= 1
        self.taken[destination].append(sent)
        return said or {"pdus": {}}

    def stream(self, destination: ServerName, ask: Ask) -> AbstractAsyncContextManager[Answer]:
        raise NotImplementedError

    def texts(self, destination: str) -> list[str]:
        """What a server has been told, in order."""
        return [text for sent in self.taken[destination] for text in sent.texts]

    def edus(self, destination: str, edu_type: str | None = None) -> list[Any]:
        """The contents of EDUs that a server has taken, in order."""
        edus = [each for sent in self.taken[destination] for each in sent.json["edus"]]
        return [each["content"] for each in edus if edu_type in (None, each["edu_type"])]

    def check_contents(self) -> None:
        """No transaction id was used for two contents."""
        contents: dict[tuple[str, str], set[bytes]] = defaultdict(set)
        for sent in self.asked:
            contents[sent.destination, sent.txn_id].add(sent.body)
        assert all(len(bodies) == 1 for bodies in contents.values())


@dataclass
class Sending:
    """A sender that runs."""

    outbound: Outbound
    readers: ReaderService
    tasks: list[asyncio.Task[None]]
    periodic: PeriodicRunner

    async def die(self) -> None:
        """As a process that is killed: no lease is given up."""
        for task in [*self.tasks, *self.readers._tasks.values()]:
            task.cancel()
        self.readers._leases.clear()
        self.readers._tasks.clear()


@contextlib.asynccontextmanager
async def sending(
    here: Process,
    others: Others,
    *,
    backoff: Backoff = QUICK,
    clock: Clock | None = None,
    prepare: Callable[[Outbound], None] | None = None,
) -> AsyncIterator[Sending]:
    """The sender on a process, until the block ends in good order. `prepare`: registers sources."""
    core = here.core
    core.clock = clock or core.clock
    pauses = Pauses(core.clock, core.entropy, longest_ms=1_000)
    partners = PartnerPolicy(
        FederationSection(),
        RoomsHere(core.db, core.memory),
        Activity(core.db, core.clock),
        RateLimiter(core.clock, {}),
    )
    transport = SimpleNamespace(client=others, backoff=pauses, partners=partners)
    feature = FederationOutboundFeature(core, here.rooms.memberships, transport)
    feature.service._backoff = backoff
    if prepare is not None:
        prepare(feature.service)
    manifest = feature.manifest
    for sink in manifest.sinks:
        if core.tail.sink_of(sink.entry_type) is None:
            core.tail.register(sink)
    for projection in manifest.projections:
        core.tail.attach(projection)
    for call in manifest.after_batch:
        core.tail.after_batch(call)
    readers = ReaderService(manifest.readers, core.db, core.tail, Entropy())
    feature.service.run_with(readers)
    await readers.declare()
    periodic = PeriodicRunner(manifest.periodic, core.db, core.clock, Entropy())
    periodic.start()
    tasks = [asyncio.create_task(readers.run())]
    try:
        yield Sending(feature.service, readers, tasks, periodic)
    finally:
        await periodic.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in manifest.stop:
            with contextlib.suppress(Exception):
                await call()


async def runs(sending_: Sending) -> None:
    """Until it has the lease."""
    await until(lambda: sending_.readers.runs("federation"))


async def join(here: Process, room_id: RoomId, *user_ids: str) -> list[PersistedEvent]:
    """Users of other servers join a public room."""
    return [
        await says(here, room_id, user_id, "m.room.member", user_id, {"membership": "join"})
        for user_id in user_ids
    ]


async def says(
    here: Process, room_id: RoomId, sender: str, kind: str, state_key: str | None, content: dict[str, Any]
) -> PersistedEvent:
    """An event of another server comes."""
    fork = await Fork.of(here, room_id)
    return await here.core.receiver.receive(fork.branch().says(sender, kind, state_key, content))


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # what is waited for does not say when it is so
            await asyncio.sleep(0.01)


async def recorded(here: Process) -> None:
    """Until it is written down that a sender has looked at all that there is now: once a second."""
    position = here.core.tail.position
    async with asyncio.timeout(60):
        while True:
            async with here.core.db.read() as tx:
                looked = await tx.value("SELECT position FROM log_readers WHERE name = 'federation'")
            if looked is not None and looked >= position:
                return
            await asyncio.sleep(0.02)


def numbered(start: int, stop: int) -> Sequence[str]:
    """The texts of messages that tests send."""
    return [f"m{number}" for number in range(start, stop)]
