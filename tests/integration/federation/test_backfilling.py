"""Older history is asked of other servers: CHECKLIST ROOM-22, FED-16."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from federation.history import backfilling
from federation.history.backfilling import RemoteHistory
from federation.inbound.known import Here
from federation.inbound.missing import Gaps
from federation.inbound.remote import Remote
from homeserver.events.event import Event
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.refs import OUTLIER
from homeserver.matrix.ids import EventId, RoomId
from homeserver.web.auth import Requester
from tests.support.federation import Federation
from tests.support.remote_members import make, take_part
from tests.support.remote_server import Asked, RemoteServer, status
from tests.support.server import Server
from tests.support.user import User

V1 = "/_matrix/federation/v1"
WAITS = Requester(user_id="@someone:localhost", user_nid=1)  # type: ignore[arg-type]  # nobody looks


class Written:
    """Where older events are written; remembers them."""

    def __init__(self) -> None:
        self.added: list[tuple[list[Event], Collection[EventId] | None]] = []

    async def add(
        self, room_nid: int, events: Sequence[Event], state_before_oldest: Collection[EventId] | None
    ) -> list[Any]:
        del room_nid
        self.added.append((list(events), state_before_oldest))
        return list(events)


class Play:
    """A room here with Bob, of a scripted server, in it; and what asks that server for more."""

    def __init__(self, here: Server, remote: RemoteServer, room_id: str, name: RoomIdentity) -> None:
        assert here.app is not None
        core, federation = here.app.core, here.app.features.federation
        self.here, self.remote, self.room_id, self.name = here, remote, room_id, name
        self.bob = remote.user("bob")
        self.written = Written()
        self.core = core
        asks = Remote(federation.client, federation.partners)
        gaps = Gaps(asks, federation.checker, Here(core.events), core.outliers, core.backfill, core.clock)
        self.history = RemoteHistory(
            asks,
            gaps,
            federation.checker,
            core.rooms,
            core.events,
            self.written,
            core.server_name,
            core.clock,
        )

    async def chain(self, count: int, **first: Any) -> list[Event]:
        """Events of Bob's, each after the one before, that nobody has sent."""
        events: list[Event] = []
        for n in range(count):
            more = {"prev": [events[-1].event_id], "depth": events[-1].depth + 1} if events else first
            events.append(
                await make(
                    self.here, self.remote, self.room_id, self.bob, "m.room.message", {"body": str(n)}, **more
                )
            )
        return events

    def answers(self, *pdus: Any) -> None:
        said = {"origin": self.remote.name, "origin_server_ts": 1, "pdus": list(pdus)}
        self.remote.answers("GET", f"{V1}/backfill/*", said)

    async def find(self, *missing: str, limit: int = 50) -> bool:
        return await self.history.find_older(WAITS, self.name, [EventId(each) for each in missing], limit)


@pytest.fixture
async def it(federation: Federation) -> Play:
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    room_id = await alice.create_room(preset="public_chat", room_version="11")
    await take_part(here, remote, room_id, remote.user("bob"))
    assert here.app is not None
    room = await here.app.core.rooms.known(RoomId(room_id))
    return Play(here, remote, room_id, room.name)


async def test_what_leads_to_what_is_missing_is_written(it: Play) -> None:
    """FED-16: and nothing else of what comes: other rooms, other branches, bad signatures."""
    events = await it.chain(3)
    [other] = await it.chain(1, depth=7)
    elsewhere = it.remote.event("11", "m.room.message", {}, sender=it.bob, room_id=RoomId("!other:x.example"))
    forged = {**events[1].fields, "signatures": {it.remote.name: {"ed25519:a_1": "A" * 86}}}
    it.answers(*(dict(each.fields) for each in (*events, other, elsewhere)), forged, 7, {}, {"room_id": 1})
    assert await it.find(events[-1].event_id)
    [(added, state)] = it.written.added
    assert {each.event_id for each in added} == {each.event_id for each in events}
    assert state is None
    [asked] = it.remote.requests("GET", f"{V1}/backfill/*")
    assert asked.query == {"v": events[-1].event_id, "limit": "50"}


async def test_the_state_before_the_oldest_is_fetched(it: Play) -> None:
    """FED-14, FED-16: what of it is not here is stored apart."""
    core = it.core
    room = await core.rooms.known(RoomId(it.room_id))
    past = await make(it.here, it.remote, it.room_id, it.bob, "m.room.name", {"name": "Before"}, "", depth=3)
    events = await it.chain(2, prev=["$unknown"], depth=9)
    loaded = await core.events.load(room.state.values())
    ids = [each.event.event_id for each in loaded.values()]
    it.answers(*(dict(each.fields) for each in events))
    told = {"pdu_ids": [*ids, past.event_id], "auth_chain_ids": ids}
    it.remote.answers("GET", f"{V1}/state_ids/*", told)
    it.remote.answers("GET", f"{V1}/event/*", lambda asked: _event_of(asked, past))
    assert await it.find(events[-1].event_id)
    [(added, state)] = it.written.added
    assert {each.event_id for each in added} == {each.event_id for each in events}
    assert set(state or ()) == {*ids, past.event_id}
    stored = await core.events.by_id(past.event_id)
    assert stored is not None
    assert stored.flags & OUTLIER


def _event_of(asked: Asked, event: Event) -> Any:
    assert event.event_id[1:] in asked.path
    return {"origin": "x", "origin_server_ts": 1, "pdus": [dict(event.fields)]}


@pytest.mark.parametrize(
    "said",
    [
        status(403, {"errcode": "M_FORBIDDEN", "error": ""}),
        status(500, {}),
        {"pdus": []},
        {"pdus": 7},
        {"pdus": [{}] * 1_000},
        b"nonsense",
        b"[" * 100_000,
        {},
    ],
)
async def test_what_is_no_history_does_no_harm(it: Play, said: Any) -> None:
    it.remote.answers("GET", f"{V1}/backfill/*", said)
    assert not await it.find("$missing")
    assert it.written.added == []


async def test_a_server_that_is_left_alone_fills_no_log(it: Play) -> None:
    """There is a line for what was tried; clients that page meanwhile add none."""
    await it.remote.stop()
    with capture_logs() as lines:
        for _ in range(5):
            assert not await it.find("$missing")
    own = [
        line["event"] for line in lines if line["event"].startswith("history") or it.remote.name in str(line)
    ]
    assert own == ["history_not_fetched"]


async def test_a_page_does_not_wait_for_long(it: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """ROOM-22: what comes later is there for the next page."""
    monkeypatch.setattr(backfilling, "PATIENCE", 0.1)
    events = await it.chain(1)
    go_on = asyncio.Event()

    async def slowly(_: Asked) -> Any:
        await go_on.wait()
        return {"origin": "x", "origin_server_ts": 1, "pdus": [dict(events[0].fields)]}

    it.remote.answers("GET", f"{V1}/backfill/*", slowly)
    assert not await it.find(events[0].event_id)
    go_on.set()
    monkeypatch.setattr(backfilling, "PATIENCE", 10)
    assert await it.find(events[0].event_id)
    assert len(it.remote.requests("GET", f"{V1}/backfill/*")) == 1, "it was being fetched"
    await it.history.stop()


# --- two whole servers ---------------------------------------------------------------------------------------------


async def paged(user: User, room_id: str, limit: int = 40) -> list[str]:
    """What messages say, newest first, from page to page."""
    said: list[str] = []
    token: str | None = None
    for _ in range(40):
        page = await user.messages(room_id, limit=limit, from_=token)
        said += [each["content"]["body"] for each in page["chunk"] if each["type"] == "m.room.message"]
        token = page.get("end")
        if token is None:
            return said
    raise AssertionError("the history has no end")


async def test_who_joins_pages_back_to_the_beginning(federation: Federation) -> None:
    """ROOM-22: nothing is missing, nothing comes twice."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    room_id = await alice.create_room(preset="public_chat")
    for n in range(130):
        await alice.send(room_id, str(n))
        if n % 30 == 7:
            await alice.put_state(room_id, "m.room.topic", {"topic": str(n)})
    await bob.join(room_id, via=[here.name])
    assert await paged(bob, room_id) == [str(n) for n in reversed(range(130))]
    assert await paged(bob, room_id) == [str(n) for n in reversed(range(130))]
    first = (await bob.messages(room_id, dir="f", limit=1))["chunk"][0]
    assert first["type"] == "m.room.create"


async def test_nobody_pages_to_what_they_may_not_see(federation: Federation) -> None:
    """ROOM-22, HV-05: what the other server strips is shown to nobody."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    state = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
    room_id = await alice.create_room(preset="public_chat", initial_state=state)
    for n in range(30):
        await alice.send(room_id, f"secret {n}")
    await bob.join(room_id, via=[here.name])
    await alice.send(room_id, "open")
    await bob.sees(room_id, "open")
    assert await paged(bob, room_id) == ["open"]


async def test_a_date_from_before_one_joined(federation: Federation) -> None:
    """FED-44, ROOM-24: the closest event is found though it was not here, and who pages on from it misses nothing."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    room_id = await alice.create_room(preset="public_chat")
    sent = [await alice.send(room_id, str(n)) for n in range(150)]
    await bob.join(room_id, via=[here.name])
    wanted = await alice.event(room_id, sent[20])
    path = "/_matrix/client/v1/rooms/{}/timestamp_to_event"
    params = {"ts": wanted["origin_server_ts"], "dir": "b"}
    expected = await alice.get(path, room_id, params=params)
    found = await bob.get(path, room_id, params=params)
    assert found == expected
    number = sent.index(found["event_id"])
    around = await bob.get("/rooms/{}/context/{}", room_id, found["event_id"], params={"limit": 0})
    page = await bob.messages(room_id, dir="b", limit=5, from_=around["start"])
    assert [each["event_id"] for each in page["chunk"]] == sent[number - 5 : number][::-1]
    page = await bob.messages(room_id, dir="f", limit=5, from_=around["end"])
    assert [each["event_id"] for each in page["chunk"]] == sent[number + 1 : number + 6]
