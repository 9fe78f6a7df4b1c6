"""The sum of incremental syncs is the initial sync: over generated histories, with two processes on one database.

A client that syncs now here, now there, with small timelines, must know at the end what a fresh client is told, and by
paging back over the gaps it must have every event the fresh client can page to, once, in order (SYNC-01, SYNC-04, SYNC-05,
SYNC-06, SYNC-08, SYNC-13, SYNC-14). What was counted as unread along the way is what is counted anew (SYNC-11, SYNC-12, MSC2654).
Receipts and account data of rooms add up, too (SYNC-17), and state does for clients that see little of the timeline.
"""

import contextlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeserver.events.event import Event
from homeserver.events.filtering import RoomEventFilter
from homeserver.graph.write.receive import MissingEvents
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import EventId, RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.push.ruleset import Ruleset
from homeserver.web.auth import Requester
from tests.support.forks import Fork
from tests.support.graph import Process, process

STEPS = 100
State = dict[tuple[str, str], str]


@dataclass
class Room:
    state: State = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    unread: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Thread, or "" for the room itself -> notifications and highlights."""
    receipts: dict[tuple[str, str, str | None], str] = field(default_factory=dict)
    """User, kind and thread -> event."""
    data: dict[str, Any] = field(default_factory=dict)
    """Account data of the room."""


@dataclass
class Client:
    """What a client makes of the answers it gets."""

    who: Requester
    state_after: bool
    lazy: bool
    limit: int
    since: str | None = None
    rooms: dict[str, Room] = field(default_factory=dict)
    invites: set[str] = field(default_factory=set)
    account_data: dict[str, Any] = field(default_factory=dict)
    per_thread: bool = False
    wanted: dict[str, Any] = field(default_factory=dict)
    """What else the filter of timelines says."""

    async def sync(self, here: Process) -> None:
        timeline = {
            "limit": self.limit,
            "unread_thread_notifications": self.per_thread,
            **self.wanted,
        }
        state = {"lazy_load_members": self.lazy}
        wanted = {"room": {"timeline": timeline, "state": state}}
        answer = await here.sync(self.who, self.since, state_after=self.state_after, filter=wanted)
        before, self.since = self.since, answer["next_batch"]
        for event in answer.get("account_data", {}).get("events", ()):
            self.account_data[event["type"]] = event["content"]
        rooms = answer.get("rooms", {})
        for room_id, section in rooms.get("join", {}).items():
            self.invites.discard(room_id)
            await self._joined(here, room_id, section, before)
        for room_id in rooms.get("leave", {}):
            self.rooms.pop(room_id, None)
            self.invites.discard(room_id)
        for room_id in rooms.get("invite", {}):
            self.invites.add(room_id)
            self.rooms.pop(room_id, None)

    async def _joined(self, here: Process, room_id: str, section: dict[str, Any], before: str | None) -> None:
        new = room_id not in self.rooms
        room = self.rooms.setdefault(room_id, Room())
        counts = {"": section["unread_notifications"], **section.get("unread_thread_notifications", {})}
        room.unread = {
            thread: (count["notification_count"], count["highlight_count"])
            for thread, count in counts.items()
        }
        room.unread["marked"] = (section["org.matrix.msc2654.unread_count"], 0)
        for event in section.get("account_data", {}).get("events", ()):
            room.data[event["type"]] = event["content"]
        for event in section.get("ephemeral", {}).get("events", ()):
            for event_id, kinds in event["content"].items():
                for kind, users in kinds.items():
                    for user, seen in users.items():
                        room.receipts[user, kind, seen.get("thread_id")] = event_id
        timeline = section.get("timeline", {})
        ids = [event["event_id"] for event in timeline.get("events", ())]
        if timeline.get("limited") and not new:
            stop = parse_token(before, "before") if before else None
            ids = await self._gap(here, room_id, timeline["prev_batch"], stop) + ids
        elif new:
            ids = await self._gap(here, room_id, timeline["prev_batch"], None) + ids
        room.timeline += ids
        _apply(room.state, section.get("state_after" if self.state_after else "state", {}).get("events", ()))
        if not self.state_after:
            _apply(room.state, timeline.get("events", ()))
        if self.lazy:
            senders = {
                event["sender"] for event in timeline.get("events", ()) if event["type"] != "m.room.create"
            }
            senders.update(section.get("summary", {}).get("m.heroes", ()))
            assert senders <= {key for kind, key in room.state if kind == "m.room.member"}

    async def _gap(self, here: Process, room_id: str, prev_batch: str, stop: int | None) -> list[str]:
        found: list[str] = []
        start: str | None = prev_batch
        while start is not None:
            page = await here.rooms.history.messages(
                self.who,
                RoomId(room_id),
                start=parse_token(start, "from"),
                stop=stop,
                backwards=True,
                limit=5,
                wanted=RoomEventFilter(),
            )
            found += [json.loads(event)["event_id"] for event in page.chunk]
            start = page.end
        return found[::-1]


def _apply(state: State, events: Any) -> None:
    for event in events:
        if "state_key" in event:
            state[event["type"], event["state_key"]] = event["event_id"]


@dataclass
class Elsewhere:
    """Events of other servers that are on their way: branches from what a room once was."""

    chance: random.Random
    on_their_way: list[Event] = field(default_factory=list)

    async def fork(self, here: Process, people: list[Requester], room_id: RoomId) -> None:
        """Two lines from the room as it is, of people who do not hear of each other."""
        fork = await Fork.of(here, room_id)
        for _ in range(2):
            branch = fork.branch()
            for _ in range(self.chance.randrange(1, 4)):
                sender, target = self.chance.choice(people).user_id, self.chance.choice(people).user_id
                levels = dict(fork.branch().state["m.room.power_levels", ""].content)
                levels["users"] = {**levels["users"], target: self.chance.choice([0, 50, 100])}
                kind, key, content = self.chance.choice(
                    [
                        ("m.room.name", "", {"name": str(self.chance.random())}),
                        ("m.room.topic", "", {"topic": str(self.chance.random())}),
                        ("m.room.member", target, {"membership": self.chance.choice(["ban", "leave"])}),
                        ("m.room.member", sender, {"membership": "join", "x": self.chance.randrange(9**9)}),
                        ("m.room.join_rules", "", {"join_rule": self.chance.choice(["public", "invite"])}),
                        ("m.room.power_levels", "", levels),
                        ("m.room.message", None, {"body": str(self.chance.random()), "msgtype": "m.text"}),
                    ]
                )
                self.on_their_way.append(branch.says(sender, kind, key, content))

    async def arrive(self, here: Process) -> None:
        """Some of them, in an order that keeps each line's."""
        for event in list(self.on_their_way):
            if self.chance.random() < 0.6:
                with contextlib.suppress(MissingEvents):
                    await here.core.receiver.receive(event)
                    self.on_their_way.remove(event)


@dataclass
class Talk:
    """What is said, read, taken back and listened to in rooms."""

    chance: random.Random
    said: list[tuple[RoomId, str, str | None]] = field(default_factory=list)
    """Room, event, and the root of its thread."""
    choosy: set[int] = field(default_factory=set)
    """Who ever ignored somebody: what they missed meanwhile does not come later."""

    async def act(self, here: Process, who: Requester, other: Requester, room_id: RoomId) -> None:
        said = [each for each in self.said if each[0] == room_id]
        act = self.chance.choice(["say", "say", "say", "answer", "react", "read", "read", "redact", "listen"])
        if act == "say" or not said:
            mentions = {"user_ids": [other.user_id]} if self.chance.random() < 0.3 else {"room": True}
            kind = self.chance.choice(["m.text", "m.text", "m.notice"])
            await self._say(here, who, room_id, {"msgtype": kind, "body": "x", "m.mentions": mentions})
            return
        _, event_id, root = self.chance.choice(said)
        if act == "answer":
            relation = {"rel_type": "m.thread", "event_id": root or event_id}
            await self._say(here, who, room_id, {"msgtype": "m.text", "body": "x", "m.relates_to": relation})
        elif act == "react":
            relation = {"rel_type": "m.annotation", "event_id": event_id, "key": "x"}
            await self._say(here, who, room_id, {"m.relates_to": relation}, "m.reaction")
        elif act == "read":
            kind = self.chance.choice(["m.read", "m.read.private"])
            thread = self.chance.choice([msgspec.UNSET, root or "main"])
            await here.ephemeral.receipts.read(who, room_id, kind, EventId(event_id), thread)
        elif act == "redact":
            await here.rooms.sending.redact(who, room_id, event_id, f"r{self.chance.random()}", {})
        else:
            await self._listen(here, who, other, room_id)

    async def _say(
        self, here: Process, who: Requester, room_id: RoomId, content: Any, kind: str = "m.room.message"
    ) -> None:
        event_id = await here.rooms.sending.send(who, room_id, kind, f"t{self.chance.random()}", content)
        relation = content.get("m.relates_to", {})
        root = relation["event_id"] if relation.get("rel_type") == "m.thread" else None
        if kind == "m.room.message":
            self.said.append((room_id, event_id, root))

    async def _listen(self, here: Process, who: Requester, other: Requester, room_id: RoomId) -> None:
        """Other rules, or somebody else to ignore."""
        if self.chance.random() < 0.5:
            ignored: dict[str, Any] = {
                "ignored_users": {other.user_id: {}} if self.chance.random() < 0.5 else {}
            }
            self.choosy.add(who.user_nid)
            await here.account_data.service.put(who.user_nid, None, "m.ignored_user_list", ignored)
            return
        rule = {"rule_id": room_id, "default": False, "enabled": self.chance.random() < 0.5, "actions": []}
        keyword = {**rule, "rule_id": "k", "pattern": "x", "actions": ["notify", {"set_tweak": "highlight"}]}

        def change(rules: Ruleset) -> None:
            rules.own.clear()
            if self.chance.random() < 0.7:
                rules.put("room", dict(rule), before=None, after=None)
            if self.chance.random() < 0.3:
                rules.put("content", keyword, before=None, after=None)

        await here.push.rules.change(who, change)


async def _act(
    chance: random.Random,
    here: Process,
    people: list[Requester],
    rooms: list[RoomId],
    talk: Talk | None = None,
) -> None:
    who, other = chance.sample(people, 2)
    room_id = chance.choice(rooms) if rooms else None
    act = chance.choice(
        ["create", "join", "join", "leave", "invite", "kick", "ban", "unban", "name", "data", "forget"]
        + ["tag", "open"]
        + ["send"] * 8
        + ["talk"] * (20 if talk else 0)
    )
    if act == "talk" and talk is not None and room_id is not None:
        await talk.act(here, who, other, room_id)
        return
    if room_id is None or act == "create":
        parameters: dict[str, Any] = {"preset": chance.choice(["public_chat", "private_chat"])}
        rooms.append(
            await here.room(who, **parameters, invite=[other.user_id] if chance.random() < 0.5 else [])
        )
        return
    membership = here.rooms.membership
    if act == "send":
        for number in range(chance.choice([1, 1, 1, 7])):
            await here.send(who, room_id, f"{number}", f"{chance.random()}")
    elif act == "name":
        await here.rooms.sending.put_state(who, room_id, ("m.room.name", ""), {"name": str(chance.random())})
    elif act == "data":
        await here.account_data.service.put(
            who.user_nid, None, f"t{chance.randrange(3)}", {"x": chance.random()}
        )
    elif act == "tag":
        await here.account_data.service.put_tag(who.user_nid, room_id, f"u.{chance.randrange(3)}", {})
    elif act == "open":
        value = chance.choice(["invited", "joined", "shared", "world_readable"])
        key = ("m.room.history_visibility", "")
        await here.rooms.sending.put_state(who, room_id, key, {"history_visibility": value})
    elif act == "join":
        await membership.join(who, room_id)
    elif act in ("leave", "forget"):
        await getattr(membership, act)(who, room_id)
    else:
        await getattr(membership, act)(who, room_id, other.user_id)


@pytest.mark.parametrize("seed", range(6))
async def test_with_state_after_the_sum_holds_where_branches_meet(
    database: str, tmp_path: Path, seed: int
) -> None:
    """SYNC-05, SYNC-06, SYNC-07: resolution changes state behind the timeline's back."""
    chance = random.Random(100 + seed)  # reproducible
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        people = [await one.user(name) for name in ("alice", "bob", "carol")]
        room_id = await one.room(
            people[0], preset="public_chat", room_version=chance.choice(["2", "11", "12"])
        )
        elsewhere = Elsewhere(chance)
        # Some sync all the time, one comes back when memory no longer reaches back to where they were.
        clients = [
            Client(who, state_after=True, lazy=False, limit=chance.choice([1, 3, 20])) for who in people
        ]
        away = Client(people[0], state_after=True, lazy=False, limit=chance.choice([1, 5]))
        await away.sync(one)
        for _ in range(STEPS // 2):
            here = chance.choice([one, two])
            await here.core.tail.fresh()
            act = chance.choice(["fork", "arrive", "arrive", "here"])
            if act == "fork":
                await elsewhere.fork(here, people, room_id)
            elif act == "arrive":
                await elsewhere.arrive(here)
            else:
                with contextlib.suppress(MatrixError):
                    await _act(chance, here, people, [room_id])
            for client in clients:
                if chance.random() < 0.3:
                    await client.sync(chance.choice([one, two]))
        for client in clients:
            await client.sync(chance.choice([one, two]))
        async with process(database, tmp_path, alone=False) as later:
            await away.sync(later)
            for client in [*clients, away]:
                fresh = Client(client.who, state_after=True, lazy=False, limit=10)
                await fresh.sync(later)
                assert client.rooms.keys() == fresh.rooms.keys()
                for name, room in client.rooms.items():
                    room.state = {key: at for key, at in room.state.items() if key in fresh.rooms[name].state}
                    assert room.state == fresh.rooms[name].state
                    assert room.unread == fresh.rooms[name].unread
            for known in [await here.core.rooms.known(room_id) for here in (one, two, later)]:
                by_chain = await one.core.states.load(known.room_state.nid)
                assert sorted(by_chain.values()) == sorted(known.state.values())


@pytest.mark.parametrize("seed", range(8))
async def test_initial_sync_is_the_sum_of_incremental_syncs(database: str, tmp_path: Path, seed: int) -> None:
    """The processes are of two hosts, or of one, where one of them writes for both."""
    chance = random.Random(seed)  # reproducible
    places = (0, 1) if seed % 2 else (None, None)
    async with (
        process(database, tmp_path, alone=False, place=places[0]) as one,
        process(database, tmp_path, alone=False, place=places[1]) as two,
    ):
        people = [await one.user(name) for name in ("alice", "bob", "carol")]
        clients = [
            Client(person, state_after=chance.random() < 0.5, lazy=False, limit=chance.choice([1, 3, 20]))
            for person in people
        ]
        for client in clients:
            client.per_thread = chance.random() < 0.5
        rooms: list[RoomId] = []
        talk = Talk(chance)
        for _ in range(STEPS):
            here = chance.choice([one, two])
            await here.core.tail.fresh()
            with contextlib.suppress(MatrixError):  # not everything is allowed
                await _act(chance, here, people, rooms, talk)
            for client in clients:
                if chance.random() < 0.3:
                    await client.sync(chance.choice([one, two]))
        for client in clients:
            await client.sync(chance.choice([one, two]))
            fresh = Client(client.who, state_after=not client.state_after, lazy=False, limit=10)
            fresh.per_thread = client.per_thread
            here = chance.choice([one, two])
            here.push.counts.reset()
            await fresh.sync(here)
            if client.who.user_nid not in talk.choosy:
                assert client.invites == fresh.invites
            assert client.account_data == fresh.account_data
            assert client.rooms.keys() == fresh.rooms.keys()
            for room_id, room in client.rooms.items():
                assert room.state == fresh.rooms[room_id].state, room_id
                assert room.unread == fresh.rooms[room_id].unread
                assert room.data == fresh.rooms[room_id].data
                assert len(set(room.timeline)) == len(room.timeline), "an event came twice"
                if client.who.user_nid in talk.choosy:
                    continue
                assert room.receipts == fresh.rooms[room_id].receipts
                # Who was away for a while does not get the past anew; what they have is the newest stretch.
                expected = fresh.rooms[room_id].timeline
                assert room.timeline == [event for event in expected if event in set(room.timeline)]
                newest = expected[-len(room.timeline) :]
                assert set(newest) - set(room.timeline) == set()


@pytest.mark.parametrize("seed", range(6))
async def test_clients_know_the_state_however_little_they_see(
    database: str, tmp_path: Path, seed: int
) -> None:
    """SYNC-05, SYNC-06, FILT-03: what a filter or the room's visibility keeps out of the timeline is in the state."""
    chance = random.Random(200 + seed)  # reproducible
    filters: list[dict[str, Any]] = [
        {},
        {"types": ["m.room.message"]},
        {"not_types": ["m.room.name", "m.room.member"]},
        {"types": []},
    ]
    async with process(database, tmp_path, alone=True) as here:
        people = [await here.user(name) for name in ("alice", "bob", "carol")]
        clients = [
            Client(
                person, state_after=bool(n % 2), lazy=False, limit=chance.choice([0, 1, 3, 20]), wanted=wanted
            )
            for person in people
            for n, wanted in enumerate(chance.sample(filters, 2))
        ]
        rooms: list[RoomId] = []
        talk = Talk(chance)
        for _ in range(STEPS):
            with contextlib.suppress(MatrixError):  # not everything is allowed
                await _act(chance, here, people, rooms, talk)
            for client in clients:
                if chance.random() < 0.2:
                    await client.sync(here)
        for client in clients:
            await client.sync(here)
            for room_id, room in client.rooms.items():
                known = await here.core.rooms.known(RoomId(room_id))
                events = await here.core.events.load(known.state.values())
                now = {key: events[nid].event.event_id for key, nid in known.state.items()}
                assert room.state == now, (client.wanted, client.limit, client.state_after)


@pytest.mark.parametrize("seed", range(6))
async def test_lazy_clients_know_who_speaks_and_nothing_wrong_of_anybody(
    database: str, tmp_path: Path, seed: int
) -> None:
    """FILT-04, FILT-05, SYNC-10: of senders and heroes the member event, and of members that are known the newest."""
    chance = random.Random(300 + seed)  # reproducible
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        people = [await one.user(name) for name in ("alice", "bob", "carol", "dave")]
        clients = [
            Client(person, state_after=chance.random() < 0.5, lazy=True, limit=chance.choice([0, 1, 3, 20]))
            for person in people
        ]
        rooms: list[RoomId] = []
        for _ in range(STEPS):
            here = chance.choice([one, two])
            await here.core.tail.fresh()
            with contextlib.suppress(MatrixError):  # not everything is allowed
                await _act(chance, here, people, rooms)
            for client in clients:
                if chance.random() < 0.3:
                    await client.sync(chance.choice([one, two]))
        for client in clients:
            await client.sync(one)
            for room_id, room in client.rooms.items():
                known = await one.core.rooms.known(RoomId(room_id))
                events = await one.core.events.load(known.state.values())
                now = {key: events[nid].event.event_id for key, nid in known.state.items()}
                assert room.state.items() <= now.items()
                assert {key for key in now if key[0] != "m.room.member"} <= room.state.keys()
                assert ("m.room.member", client.who.user_id) in room.state
