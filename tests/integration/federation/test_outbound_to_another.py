"""Two servers in one room: what is sent by one comes to the people of the other."""

from types import SimpleNamespace
from typing import Any, cast

from homeserver.events.builder import EventDraft
from homeserver.matrix.ids import RoomId, UserId
from homeserver.policy.passages import system_passage
from tests.support.federation import Federation
from tests.support.forks import Elsewhere, state_of
from tests.support.graph import Process
from tests.support.outbound import numbered
from tests.support.server import Server


def beneath(server: Server) -> Process:
    """What tests of the graph work on."""
    assert server.app is not None
    return cast("Process", SimpleNamespace(core=server.app.core))


async def join_from(there: Server, user_id: str, here: Server, room: str) -> None:
    """Somebody of another server joins a room of this one, without any handshake."""
    one, two = beneath(here), beneath(there)
    room_id, bob = RoomId(room), UserId(user_id)
    state = await state_of(one, room_id)
    known = await one.core.rooms.known(room_id)
    tip = await one.core.events.one(known.extremities[0].nid)
    assert tip is not None
    draft = EventDraft("m.room.member", bob, bob, {"membership": "join"})
    join = Elsewhere(two, state).event(room_id, [tip.event], state, draft)
    await one.core.receiver.receive(join)
    told = list(state.values())
    await two.core.adoption.adopt(join, told, told, system_passage("a test"))


class Listener:
    """Somebody who syncs."""

    def __init__(self, user: Any, room: str) -> None:
        self._user = user
        self._room = room
        self._since: str | None = None
        self.texts: list[str] = []
        self.ephemeral: list[Any] = []

    async def hears(self, *, texts: int = 0, ephemeral: str = "") -> None:
        """Until so many messages have come, and something of this type."""
        for _ in range(300):
            if len(self.texts) >= texts and (not ephemeral or ephemeral in self.types):
                return
            options = {"since": self._since} if self._since else {}
            answer = await self._user.get(
                "/sync", params={"timeout": 1000, "filter": '{"room":{"timeline":{"limit":100}}}', **options}
            )
            self._since = answer["next_batch"]
            told = answer.get("rooms", {}).get("join", {}).get(self._room, {})
            events = told.get("timeline", {}).get("events", [])
            self.texts += [e["content"]["body"] for e in events if e["type"] == "m.room.message"]
            self.ephemeral += told.get("ephemeral", {}).get("events", [])
        raise AssertionError(f"{len(self.texts)} messages, {self.types}")

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.ephemeral]


async def test_what_is_said_on_one_server_is_heard_on_the_other(federation: Federation) -> None:
    """FED-08, FED-29, FED-35: messages in order, typing and public receipts, both ways."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    room = await alice.create_room(preset="public_chat")
    await join_from(there, bob.user_id, here, room)
    at_alice, at_bob = Listener(alice, room), Listener(bob, room)
    await at_alice.hears()
    await at_bob.hears()
    ids = [await alice.send(room, text) for text in numbered(0, 30)]
    await at_bob.hears(texts=30)
    assert at_bob.texts == numbered(0, 30)
    await bob.post("/rooms/{}/receipt/m.read/{}", room, ids[-1], json={})
    await bob.put("/rooms/{}/typing/{}", room, bob.user_id, json={"typing": True})
    for text in numbered(30, 60):
        await bob.send(room, text)
    await at_alice.hears(texts=60, ephemeral="m.receipt")
    assert at_alice.texts == numbered(0, 60)
    (read,) = [event for event in at_alice.ephemeral if event["type"] == "m.receipt"]
    assert list(read["content"][ids[-1]]["m.read"]) == [bob.user_id]
    typing = [event["content"]["user_ids"] for event in at_alice.ephemeral if event["type"] == "m.typing"]
    assert [bob.user_id] in typing
