"""Events, state and the past of rooms, told to other servers: CHECKLIST FED-13, FED-15 to FED-17, FED-44, HV-05, ACL-02."""

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.graph.refs import SOFT_FAILED
from tests.support.federation import Federation
from tests.support.remote_members import make, says, take_part
from tests.support.remote_server import RemoteServer
from tests.support.server import Server
from tests.support.user import User

V1 = "/_matrix/federation/v1"
Asked = tuple[int, Any]


def q(text: str) -> str:
    return quote(text, safe="")


class Play:
    """A room of Alice's here, and a scripted server."""

    def __init__(self, here: Server, remote: RemoteServer, alice: User, room: str) -> None:
        self.here, self.remote, self.alice, self.room = here, remote, alice, room
        self.bob = remote.user("bob")

    async def get(self, path: str, **query: Any) -> Asked:
        uri = V1 + path.format(room=q(self.room))
        if query:
            uri += "?" + "&".join(f"{key}={q(str(value))}" for key, value in query.items())
        return await self.remote.ask(self.here, "GET", uri)

    async def missing(self, room: str | None = None, **body: Any) -> Asked:
        uri = f"{V1}/get_missing_events/{q(room or self.room)}"
        return await self.remote.ask(self.here, "POST", uri, {"earliest_events": [], **body})

    async def backfill(self, *event_ids: str, limit: int = 10, room: str | None = None) -> Asked:
        named = "".join(f"&v={q(each)}" for each in event_ids)
        uri = f"{V1}/backfill/{q(room or self.room)}?limit={limit}{named}"
        return await self.remote.ask(self.here, "GET", uri)


async def play(
    federation: Federation, *, history: str = "shared", version: str = "11", **options: Any
) -> Play:
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    state = [{"type": "m.room.history_visibility", "content": {"history_visibility": history}}]
    room = await alice.create_room(preset="public_chat", room_version=version, initial_state=state, **options)
    return Play(here, remote, alice, room)


def bodies(answer: Asked) -> list[str | None]:
    status, said = answer
    assert status == 200, said
    return [pdu["content"].get("body") for pdu in said.get("pdus", said.get("events"))]


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_a_server_in_the_room_is_told_its_events(federation: Federation, version: str) -> None:
    """FED-15, FED-16, FED-17."""
    it = await play(federation, version=version)
    sent = [await it.alice.send(it.room, str(n)) for n in range(4)]
    join = await take_part(it.here, it.remote, it.room, it.bob)
    last = await it.alice.send(it.room, "last")

    status, single = await it.get(f"/event/{q(last)}")
    assert status == 200
    assert set(single) == {"origin", "origin_server_ts", "pdus"}
    assert single["origin"] == it.here.name
    assert single["pdus"][0]["content"]["body"] == "last"
    assert single["pdus"][0]["signatures"]

    assert bodies(await it.backfill(last, limit=4)) == ["last", None, "3", "2"]
    assert bodies(await it.backfill(sent[1], sent[2], limit=3)) == ["2", "1", "0"]

    assert bodies(await it.missing(latest_events=[last], earliest_events=[sent[1]])) == ["2", "3", None]
    assert bodies(await it.missing(latest_events=[last], limit=2)) == ["3", None]
    assert bodies(await it.missing(latest_events=[last], min_depth=join.depth)) == [None]

    status, ids = await it.get("/state_ids/{room}", event_id=join.event_id)
    assert status == 200
    status, state = await it.get("/state/{room}", event_id=join.event_id)
    assert status == 200
    kinds = sorted(pdu["type"] for pdu in state["pdus"])
    assert len(state["pdus"]) == len(ids["pdu_ids"])
    assert len(state["auth_chain"]) == len(ids["auth_chain_ids"])
    assert "m.room.create" in {pdu["type"] for pdu in state["auth_chain"]}
    assert kinds.count("m.room.member") == 1, "the state before the event"
    assert "m.room.create" in kinds
    status, auth = await it.get(f"/event_auth/{{room}}/{q(last)}")
    assert status == 200
    found = {pdu["type"] for pdu in auth["auth_chain"]}
    assert found == {"m.room.create", "m.room.member", "m.room.power_levels"}


async def test_who_was_never_in_the_room_is_told_nothing(federation: Federation) -> None:
    """HV-05: not even of rooms that anybody could join, or that the world reads; Dendrite's /backfill does."""
    it = await play(federation)
    secret = await it.alice.send(it.room, "secret")
    for path in (f"/event/{q(secret)}", f"/event_auth/{{room}}/{q(secret)}"):
        assert (await it.get(path))[0] == 403
    for path in ("/state/{room}", "/state_ids/{room}"):
        assert (await it.get(path, event_id=secret))[0] == 403
    assert (await it.backfill(secret))[0] == 403
    assert (await it.missing(latest_events=[secret]))[0] == 403
    assert (await it.get("/timestamp_to_event/{room}", ts=0, dir="f"))[0] == 403
    assert (await it.backfill(secret, room="!other:nowhere.example"))[0] == 403


async def test_what_users_of_the_server_could_not_see_is_stripped(federation: Federation) -> None:
    """HV-05."""
    it = await play(federation, history="joined")
    before = await it.alice.send(it.room, "before")
    await take_part(it.here, it.remote, it.room, it.bob)
    after = await it.alice.send(it.room, "after")
    assert bodies(await it.backfill(after, limit=3)) == ["after", None, None]
    status, single = await it.get(f"/event/{q(before)}")
    assert status == 200
    assert single["pdus"][0]["content"] == {}
    assert bodies(await it.missing(latest_events=[after], limit=2)) == [None, None]


async def test_who_has_left_is_told_what_could_be_seen_and_no_more(federation: Federation) -> None:
    """HV-05."""
    it = await play(federation)
    old = await it.alice.send(it.room, "old")
    await take_part(it.here, it.remote, it.room, it.bob)
    mid = await it.alice.send(it.room, "mid")
    leave = await take_part(it.here, it.remote, it.room, it.bob, "leave")
    new = await it.alice.send(it.room, "new")
    assert (await it.get(f"/event/{q(new)}"))[0] == 404
    assert (await it.get("/state_ids/{room}", event_id=new))[0] == 404
    assert bodies(await it.backfill(new, limit=4)) == [None, "mid", None]
    assert bodies(await it.backfill(old, limit=1)) == ["old"]
    assert (await it.get("/state_ids/{room}", event_id=mid))[0] == 200
    assert (await it.get(f"/event/{q(leave.event_id)}"))[0] == 200


async def test_who_is_denied_by_the_rooms_list_is_told_nothing(federation: Federation) -> None:
    """ACL-02."""
    it = await play(federation)
    await take_part(it.here, it.remote, it.room, it.bob)
    last = await it.alice.send(it.room, "x")
    assert bodies(await it.backfill(last, limit=1)) == ["x"]
    await it.alice.put_state(
        it.room, "m.room.server_acl", {"allow": ["*"], "deny": [it.remote.name.partition(":")[0]]}
    )
    for answer in (
        await it.backfill(last),
        await it.missing(latest_events=[last]),
        await it.get("/state/{room}", event_id=last),
        await it.get("/state_ids/{room}", event_id=last),
        await it.get(f"/event_auth/{{room}}/{q(last)}"),
        await it.get(f"/event/{q(last)}"),
        await it.get("/timestamp_to_event/{room}", ts=0, dir="f"),
    ):
        status, said = answer
        assert (status, said["errcode"]) == (403, "M_FORBIDDEN")


async def test_what_was_not_accepted_is_not_told(federation: Federation) -> None:
    """FED-13: soft-failed events only by their ID; rejected ones never."""
    it = await play(federation)
    await take_part(it.here, it.remote, it.room, it.bob)
    carol = it.remote.user("carol")
    await take_part(it.here, it.remote, it.room, carol)
    late = await make(it.here, it.remote, it.room, carol, "m.room.message", {"body": "late"})
    rejected = await make(it.here, it.remote, it.room, carol, "m.room.name", {"name": "x"}, "")
    await it.alice.ban(it.room, carol)
    assert it.here.app is not None
    receive = it.here.app.core.receiver.receive
    assert (await receive(late)).flags == SOFT_FAILED
    assert (await receive(rejected)).hidden
    child = await says(
        it.here, it.remote, it.room, it.bob, "m.room.message", {"body": "on top"},
        prev=[late.event_id, rejected.event_id], depth=late.depth + 1,
    )  # fmt: skip
    assert "late" not in bodies(await it.backfill(child.event_id))
    assert "late" not in bodies(await it.missing(latest_events=[child.event_id]))
    assert len(bodies(await it.backfill(child.event_id))) == 9, "what is before them is told"
    assert bodies(await it.get(f"/event/{q(late.event_id)}")) == ["late"]
    assert (await it.get(f"/event/{q(rejected.event_id)}"))[0] == 404


async def test_events_of_other_rooms_are_not_told(federation: Federation) -> None:
    """HV-05: being in one room opens no other."""
    it = await play(federation)
    await take_part(it.here, it.remote, it.room, it.bob)
    last = await it.alice.send(it.room, "x")
    private = await it.alice.create_room(preset="private_chat")
    secret = await it.alice.send(private, "secret")
    assert bodies(await it.backfill(secret)) == []
    assert "secret" not in bodies(await it.backfill(secret, last))
    assert bodies(await it.missing(latest_events=[secret])) == []
    assert (await it.get("/state_ids/{room}", event_id=secret))[0] == 404
    assert (await it.get("/state/{room}", event_id=secret))[0] == 404
    assert (await it.get(f"/event_auth/{{room}}/{q(secret)}"))[0] == 404
    assert (await it.get(f"/event/{q(secret)}"))[0] == 403


async def test_malformed_requests_are_refused(federation: Federation) -> None:
    """Never 500, which is what Synapse says to some."""
    it = await play(federation)
    await take_part(it.here, it.remote, it.room, it.bob)
    last = await it.alice.send(it.room, "x")
    room = q(it.room)
    uris = [
        f"/backfill/{room}?limit=1",
        f"/backfill/{room}?v={q(last)}",
        f"/backfill/{room}?v={q(last)}&limit=x",
        f"/backfill/{room}?v=nonsense&limit=1",
        f"/backfill/nonsense?v={q(last)}&limit=1",
        f"/state/{room}",
        f"/state_ids/{room}",
        f"/state_ids/{room}?event_id=x",
        f"/state_ids/{room}?event_id=%00",
        "/event/x",
        f"/event_auth/{room}/x",
        f"/timestamp_to_event/{room}?ts=1",
        f"/timestamp_to_event/{room}?ts=x&dir=f",
        f"/timestamp_to_event/{room}?ts=1&dir=sideways",
    ]
    for uri in uris:
        status, said = await it.remote.ask(it.here, "GET", V1 + uri)
        assert status == 400, uri
        assert said["errcode"] in {"M_MISSING_PARAM", "M_INVALID_PARAM"}, uri
    unknown = [
        f"/state/{room}?event_id={q('$unknown')}",
        f"/state_ids/{room}?event_id={q('$unknown')}",
        f"/event/{q('$unknown')}",
        f"/event_auth/{room}/{q('$unknown')}",
    ]
    for uri in unknown:
        status, said = await it.remote.ask(it.here, "GET", V1 + uri)
        assert (status, said["errcode"]) == (404, "M_NOT_FOUND"), uri
    for limit in (-1, 0, 10**30):
        status, _ = await it.remote.ask(it.here, "GET", f"{V1}/backfill/{room}?v={q(last)}&limit={limit}")
        assert status in (200, 400)
    wrong: list[Any] = [
        {},
        {"latest_events": 1, "earliest_events": []},
        {"latest_events": [7], "earliest_events": []},
        {"latest_events": [last], "earliest_events": [], "limit": "9"},
        {"latest_events": [last], "earliest_events": [], "limit": None},
        [],
    ]
    for body in wrong:
        status, _ = await it.remote.ask(it.here, "POST", f"{V1}/get_missing_events/{room}", body)
        assert status == 400, body
    for numbers in ({"limit": -5}, {"min_depth": -5}, {"limit": 2**53}):
        status, _ = await it.missing(latest_events=[last], **numbers)
        assert status == 200, numbers


async def test_answers_are_bounded(federation: Federation) -> None:
    """FED-15, FED-16: in number, whatever is asked for, and in bytes."""
    it = await play(federation)
    await take_part(it.here, it.remote, it.room, it.bob)
    for n in range(80):
        await it.alice.send(it.room, f"{n} " + "x" * 60_000)
    last = await it.alice.send(it.room, "last")
    found = bodies(await it.backfill(last, limit=10_000))
    assert found[0] == "last"
    assert 50 < len(found) < 80
    assert len(bodies(await it.missing(latest_events=[last], limit=10_000))) < 80
    many = [f"$unknown{n}" for n in range(1_000)]
    assert bodies(await it.missing(latest_events=[*many, last], limit=1)) == []
    assert bodies(await it.backfill(*many[:100], last, limit=1)) == []


async def test_the_event_closest_to_a_moment(federation: Federation) -> None:
    """FED-44: of those that the server could see."""
    it = await play(federation, history="joined")
    hidden = await it.alice.event(it.room, await it.alice.send(it.room, "before"))
    await take_part(it.here, it.remote, it.room, it.bob)
    seen = await it.alice.event(it.room, await it.alice.send(it.room, "after"))
    status, found = await it.get("/timestamp_to_event/{room}", ts=seen["origin_server_ts"] + 1, dir="b")
    assert (status, found["event_id"]) == (200, seen["event_id"])
    status, found = await it.get("/timestamp_to_event/{room}", ts=hidden["origin_server_ts"], dir="f")
    assert status == 200
    assert found["event_id"] != hidden["event_id"]
    status, said = await it.get("/timestamp_to_event/{room}", ts=seen["origin_server_ts"] + 9, dir="f")
    assert (status, said["errcode"]) == (404, "M_NOT_FOUND")
