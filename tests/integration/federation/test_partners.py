"""What was agreed with partners, enforced: who may do what, in both directions; changed while the server serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from structlog.testing import capture_logs

from homeserver.config.federation import FederationSection
from homeserver.matrix.ids import ServerName
from tests.integration.federation.test_media import multipart
from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom as JoinableRoom
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.remote_server import RemoteServer
from tests.support.server import Server
from tests.support.user import User

V1 = "/_matrix/federation/v1"
PATIENCE = 60.0
"""Seconds that what is let be done may take."""
MOMENT = 1.5
"""Seconds after which what is not expected counts as not done."""
AUTH: Sequence[tuple[str, str]] = (("m.room.power_levels", ""), ("m.room.join_rules", ""))
"""What a join to a public room of version 12 rests on."""


def agree(here: Server, **section: Any) -> None:
    """From now on this holds."""
    here.app.features.federation.partners.replace(FederationSection.model_validate(section))


@dataclass
class Play:
    """Alice here, Bob on a scripted server, and a room of hers that he is in."""

    here: Server
    alice: User
    remote: RemoteServer
    room: RemoteRoom
    alias: str
    media_id: str = ""
    numbers: list[int] = field(default_factory=list)
    in_vain: bool = False
    """Whether what is done now is not expected to be let be done."""

    @classmethod
    async def begin(cls, federation: Federation) -> Play:
        here, remote = await federation.start(presence={"enabled": True}), await federation.remote()
        agree(here)
        alice = await here.register("alice")
        name = f"shared-{alice.localpart.replace('.', '-')}"
        room_id = await alice.create_room(
            preset="public_chat", room_alias_name=name, visibility="public", room_version="12"
        )
        room = await RemoteRoom.join(here, remote, room_id, "bob")
        told = await alice.exchange(
            "POST", "/_matrix/media/v3/upload", data=b"x" * 2_000, headers={"Content-Type": "text/plain"}
        )
        media_id = told.json["content_uri"].rpartition("/")[2]
        remote.answers("PUT", f"{V1}/send/*", {"pdus": {}})
        return cls(here, alice, remote, room, f"#{name}:{here.name}", media_id)

    def number(self) -> int:
        self.numbers.append(0)
        return len(self.numbers)

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return await self.remote.ask(self.here, "GET", path + (f"?{asked}" if asked else ""))

    def refusals(self) -> dict[str, int]:
        counted: Any = self.here.app.features.federation.partners.refusals.collect()
        (family,) = counted
        return {s.labels["reason"]: int(s.value) for s in family.samples if s.value}


# --- what a partner does here: each says whether it was let do it ----------------------------------------------------------


async def asks_for_a_profile(play: Play) -> bool:
    return (await play.get(f"{V1}/query/profile", user_id=play.alice.user_id))[0] == 200


async def asks_for_devices(play: Play) -> bool:
    body = {"device_keys": {play.alice.user_id: []}}
    return (await play.remote.ask(play.here, "POST", f"{V1}/user/keys/query", body))[0] == 200


async def sends_an_event(play: Play) -> bool:
    said = play.room.says("bob", "m.room.message", TEXT, prev=play.room.tips)
    body = {"origin": play.remote.name, "origin_server_ts": 1, "pdus": [dict(said.fields)], "edus": []}
    code, answer = await play.remote.ask(play.here, "PUT", f"{V1}/send/event{play.number()}", body)
    return code == 200 and answer["pdus"][said.event_id] == {}


async def is_heard_typing(play: Play) -> bool:
    bob = play.remote.user("bob")
    content = {"room_id": play.room.room_id, "user_id": bob, "typing": True}
    body = {
        "origin": play.remote.name,
        "origin_server_ts": 1,
        "edus": [{"edu_type": "m.typing", "content": content}],
    }
    await play.remote.ask(play.here, "PUT", f"{V1}/send/typing{play.number()}", body)
    told = (await play.alice.sync(since=None))["rooms"]["join"][play.room.room_id]
    ephemeral = told.get("ephemeral", {}).get("events", [])
    shown = any(bob in event["content"].get("user_ids", ()) for event in ephemeral)
    body["edus"] = [{"edu_type": "m.typing", "content": {**content, "typing": False}}]
    await play.remote.ask(play.here, "PUT", f"{V1}/send/typing{play.number()}", body)
    return shown


async def is_seen(play: Play) -> bool:
    bob, status = play.remote.user("bob"), f"here {play.number()}"
    content = {"push": [{"user_id": bob, "presence": "online", "last_active_ago": 1, "status_msg": status}]}
    body = {
        "origin": play.remote.name,
        "origin_server_ts": 1,
        "edus": [{"edu_type": "m.presence", "content": content}],
    }
    await play.remote.ask(play.here, "PUT", f"{V1}/send/presence{play.number()}", body)
    told = await play.alice.exchange("GET", "/_matrix/client/v3/presence/{}/status", bob, expect=None)
    return bool(told.json.get("status_msg") == status)


async def wants_to_join(play: Play) -> bool:
    path = f"{V1}/make_join/{quote(play.room.room_id)}/{quote(play.remote.user('carol'))}"
    return (await play.get(path, ver="12"))[0] == 200


async def reads_the_past(play: Play) -> bool:
    tip = play.room.tip.event_id
    found = [
        (await play.get(f"{V1}/event/{quote(tip)}"))[0],
        (await play.get(f"{V1}/backfill/{quote(play.room.room_id)}", v=tip, limit="5"))[0],
        (await play.get(f"{V1}/state_ids/{quote(play.room.room_id)}", event_id=tip))[0],
    ]
    assert len(set(found)) == 1, found
    return found[0] == 200


async def finds_the_room(play: Play) -> bool:
    """By its alias, in the list, and as a space: all or nothing."""
    listed = await play.get(f"{V1}/publicRooms")
    found = [
        (await play.get(f"{V1}/query/directory", room_alias=play.alias))[0] == 200,
        play.room.room_id in json.dumps(listed[1]),
        (await play.get(f"{V1}/hierarchy/{quote(play.room.room_id)}"))[0] == 200,
    ]
    assert len(set(found)) == 1, found
    return found[0]


async def gets_a_file(play: Play) -> bool:
    status, body, _ = await play.remote.fetch(play.here, f"{V1}/media/download/{play.media_id}")
    return status == 200 and b"x" * 2_000 in body


async def invites(play: Play) -> bool:
    """Into a room of its own."""
    there = JoinableRoom(play.remote)
    uri, body = there.invite(play.alice.user_id)
    return (await play.remote.ask(play.here, "PUT", uri, body))[0] == 200


# --- what is done with it --------------------------------------------------------------------------------------------------


async def is_told_events(play: Play) -> bool:
    text = f"hello {play.number()}"
    await play.alice.send(play.room.room_id, text)

    def told() -> bool:
        return any(f'"{text}"'.encode() in each.body for each in play.remote.requests("PUT", f"{V1}/send/*"))

    return await before_long(play, told)


async def is_told_presence(play: Play) -> bool:
    status = f"busy {play.number()}"
    await play.alice.put(
        "/presence/{}/status", play.alice.user_id, json={"presence": "online", "status_msg": status}
    )

    def told() -> bool:
        return any(status.encode() in each.body for each in play.remote.requests("PUT", f"{V1}/send/*"))

    return await before_long(play, told)


async def before_long(play: Play, told: Callable[[], bool]) -> bool:
    loop = asyncio.get_running_loop()
    end = loop.time() + (MOMENT if play.in_vain else PATIENCE)
    while loop.time() < end:
        if told():
            play.remote.asked.clear()
            return True
        await asyncio.sleep(0.05)
    return False


async def in_vain(play: Play, act: Act) -> bool:
    """As `act`, where it is not expected to be let do it: that is not waited for long."""
    play.in_vain = True
    try:
        return await act(play)
    finally:
        play.in_vain = False


async def is_invited(play: Play) -> bool:
    """Into Alice's room."""
    user = play.remote.user(f"dora{play.number()}")

    def signed(asked: Any) -> Any:
        return {"event": play.remote.sign(asked.json["event"])}

    play.remote.answers("PUT", "/_matrix/federation/v2/invite/*", signed)
    answer = await play.alice.exchange(
        "POST",
        "/_matrix/client/v3/rooms/{}/invite",
        play.room.room_id,
        json={"user_id": user},
        expect=None,
    )
    assert answer.status in (200, 403), answer
    return answer.status == 200


async def is_joined(play: Play) -> bool:
    """A room of its own."""
    there = JoinableRoom(play.remote)
    there.serves()
    answer = await play.alice.exchange(
        "POST",
        "/_matrix/client/v3/join/{}",
        there.room_id,
        params={"server_name": play.remote.name},
        json={},
        expect=None,
    )
    assert answer.status in (200, 403), answer
    return answer.status == 200


async def gives_a_file(play: Play) -> bool:
    media_id = f"file{play.number()}"
    play.remote.answers("GET", f"{V1}/media/download/{media_id}*", multipart(b"y" * 2_000))
    headers = {"Authorization": f"Bearer {play.alice.token}"}
    url = f"{play.here.url}/_matrix/client/v1/media/download/{play.remote.name}/{media_id}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as got:
        return got.status == 200


async def is_asked_for_a_profile(play: Play) -> bool:
    play.remote.answers("GET", f"{V1}/query/profile", {"displayname": "Eve"})
    user = play.remote.user(f"eve{play.number()}")
    return (
        await play.alice.exchange("GET", "/_matrix/client/v3/profile/{}", user, expect=None)
    ).status == 200


Act = Callable[[Play], Awaitable[bool]]
ACTS: Sequence[Act] = (
    asks_for_a_profile,
    asks_for_devices,
    sends_an_event,
    is_heard_typing,
    is_seen,
    wants_to_join,
    reads_the_past,
    finds_the_room,
    gets_a_file,
    invites,
    is_told_events,
    is_told_presence,
    is_invited,
    is_joined,
    gives_a_file,
    is_asked_for_a_profile,
)
IN_ROOM: frozenset[Act] = frozenset(
    {
        sends_an_event,
        is_heard_typing,
        wants_to_join,
        reads_the_past,
        finds_the_room,
        is_told_events,
        is_invited,
    }
)
PRESENCE: frozenset[Act] = frozenset({is_seen, is_told_presence})
IN_ITS_ROOM: frozenset[Act] = frozenset({invites, is_joined})
FILES: frozenset[Act] = frozenset({gets_a_file, gives_a_file})


def partner(**terms: Any) -> Callable[[Play], dict[str, Any]]:
    return lambda play: {
        "partners": [
            {"server_name": play.remote.name}
            | {name: value(play) if callable(value) else value for name, value in terms.items()}
        ]
    }


WHO: dict[str, tuple[Callable[[Play], dict[str, Any]], frozenset[Act]]] = {
    "nothing agreed": (lambda _: {}, frozenset()),
    "denied": (lambda play: {"deny": [play.remote.name]}, frozenset(ACTS)),
    "denied by a pattern": (lambda _: {"deny": ["loc*t"]}, frozenset(ACTS)),
    "not allowed": (lambda _: {"allow": ["*.test"]}, frozenset(ACTS)),
    "switched off": (lambda _: {"enabled": False}, frozenset(ACTS)),
    "allowed": (lambda _: {"allow": ["local*"]}, frozenset()),
    "no room": (partner(rooms=[]), IN_ROOM | IN_ITS_ROOM | {is_told_presence}),
    "its own rooms": (partner(rooms=lambda play: [play.remote.name]), IN_ROOM | {is_told_presence}),
    "this room by id": (partner(rooms=lambda play: [play.room.room_id]), IN_ITS_ROOM),
    "this room by alias": (partner(rooms=["#shared-*"]), IN_ITS_ROOM),
    "rooms by who made them": (partner(rooms=lambda play: [play.here.name]), IN_ITS_ROOM),
    "no presence": (partner(presence=False), PRESENCE),
    "no files": (partner(media=False), FILES),
    "small files": (partner(max_media_size=1_999), FILES),
    "large files": (partner(max_media_size="2K"), frozenset()),
}


@pytest.mark.parametrize("who", WHO)
async def test_who_may_do_what(federation: Federation, who: str) -> None:
    """DISC-09, FED-01, ACL-02: each thing that a partner does here, and that is done with it, under each kind of agreement."""
    play = await Play.begin(federation)
    section, refused = WHO[who]
    agree(play.here, **section(play))
    found = {}
    for act in ACTS:
        play.in_vain = act in refused
        found[act.__name__] = await act(play)
    assert {name for name, done in found.items() if not done} == {act.__name__ for act in refused}


async def test_a_refusal_is_told_once_and_counted_always(federation: Federation) -> None:
    play = await Play.begin(federation)

    async def told(times: int) -> list[str]:
        with capture_logs() as lines:
            for _ in range(times):
                assert not await asks_for_a_profile(play)
        return [line["reason"] for line in lines if line["event"] == "federation.refused"]

    agree(play.here, deny=[play.remote.name])
    assert await told(5) == ["server"]
    assert play.refusals() == {"server": 5}
    assert await told(2) == []
    agree(play.here, deny=["localhost"])
    assert await told(2) == ["server"]


async def test_rates_of_its_own(federation: Federation) -> None:
    """A partner may do more than others, or less; events are counted one by one."""
    play = await Play.begin(federation)
    slow = {"per_second": 0.001, "burst": 3}
    agree(play.here, partners=[{"server_name": play.remote.name, "requests": slow}])
    answers = [(await play.get(f"{V1}/query/profile", user_id=play.alice.user_id))[0] for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    agree(play.here, partners=[{"server_name": play.remote.name, "pdus": slow}])
    first = play.room.chain("bob", 2)
    await play.room.send(*first)
    await play.room.arrives(*first)
    code, answer = await play.remote.ask(
        play.here,
        "PUT",
        f"{V1}/send/two_more",
        {"origin": play.remote.name, "pdus": [dict(each.fields) for each in play.room.chain("bob", 2)]},
    )
    assert (code, answer["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    assert play.refusals() == {"requests": 2, "pdus": 1}


async def test_where_some_alone_are_allowed_no_room_with_others_is_joined(federation: Federation) -> None:
    """Who is in a room is known when the other server has let us in: then we leave again."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    other = await federation.remote()
    agree(here, allow=[remote.name])
    stranger = JoinableRoom(remote)
    eve = other.user("eve")
    join = other.event(
        "12",
        "m.room.member",
        {"membership": "join"},
        state_key=eve,
        sender=eve,
        room_id=stranger.room_id,
        prev=[stranger.events[-1].event_id],
        auth=[stranger.state[key].event_id for key in AUTH],
        depth=stranger.events[-1].depth + 1,
    )
    stranger.events.append(join)
    stranger.state["m.room.member", eve] = join
    stranger.serves()
    left: list[Any] = []
    remote.answers("PUT", "/_matrix/federation/v2/send_leave/*", lambda asked: left.append(asked.json) or {})
    answer = await alice.exchange(
        "POST",
        "/_matrix/client/v3/join/{}",
        stranger.room_id,
        params={"server_name": remote.name},
        json={},
        expect=(403, "M_FORBIDDEN"),
    )
    assert other.name in answer.json["error"]
    assert [each["content"]["membership"] for each in left] == ["leave"]
    assert stranger.room_id not in (await alice.get("/joined_rooms"))["joined_rooms"]


async def test_a_room_with_others_is_not_joined_by_more_of_ours(federation: Federation) -> None:
    play = await Play.begin(federation)
    carol = await play.here.register("carol")
    agree(play.here, allow=["*.test"])
    answer = await carol.exchange(
        "POST", "/_matrix/client/v3/join/{}", play.room.room_id, json={}, expect=403
    )
    assert answer.status == 403
    assert play.remote.name in answer.json["error"]
    agree(play.here, deny=[play.remote.name])
    await carol.join(play.room.room_id)


async def test_what_was_queued_before_is_not_sent_when_it_is_no_longer_agreed(federation: Federation) -> None:
    play = await Play.begin(federation)
    play.remote.away = True
    event_id = await play.alice.send(play.room.room_id, "before")
    backoff = play.here.app.features.federation.backoff
    assert await before_long(play, lambda: backoff.of(play.remote.name) is not None)
    agree(play.here, partners=[{"server_name": play.remote.name, "rooms": []}])
    play.remote.away = False
    backoff.reset(play.remote.name)

    def told() -> bool:
        return any(event_id.encode() in each.body for each in play.remote.requests("PUT", f"{V1}/send/*"))

    assert not await in_vain(play, lambda play: before_long(play, told))


async def test_a_room_gets_another_alias(federation: Federation) -> None:
    """What patterns look at is what is now."""
    play = await Play.begin(federation)
    agree(play.here, partners=[{"server_name": play.remote.name, "rooms": ["#open-*"]}])
    assert not await in_vain(play, sends_an_event)
    assert not await in_vain(play, is_told_events)
    alias = play.alias.replace("#shared-", "#open-")
    await play.alice.put("/directory/room/{}", alias, json={"room_id": play.room.room_id})
    assert await sends_an_event(play)
    assert await is_told_events(play)
    await play.alice.delete("/directory/room/{}", alias)
    assert not await in_vain(play, sends_an_event)
    assert not await in_vain(play, is_told_events)


async def test_what_a_change_would_have_refused(federation: Federation) -> None:
    """The dry run, from what was counted."""
    from federation.partners.commands import figures
    from federation.partners.dry_run import would_refuse

    play = await Play.begin(federation)
    for act in (
        sends_an_event,
        asks_for_a_profile,
        gets_a_file,
        wants_to_join,
        is_told_events,
        is_told_presence,
    ):
        assert await act(play)
    assert await invites(play)
    core, feature = play.here.app.core, play.here.app.features.federation
    await feature.agreements._activity.write()
    await feature.agreements._activity.forget()

    async def said(**section: Any) -> list[str]:
        found = await would_refuse(core.db, FederationSection.model_validate(section), core.clock, days=7)
        return sorted({f"{each.kind} {each.reason}" for each in found})

    name = play.remote.name
    everything = [
        "events server",
        "invited server",
        "media_given server",
        "pdus server",
        "presence_told server",
        "requests server",
        "sent server",
    ]
    assert await said() == []
    assert await said(allow=["localhost"]) == []
    assert await said(deny=["localhost"]) == everything
    assert await said(allow=["*.test"]) == everything
    in_room = ["events room", "invited invite", "sent room"]
    assert await said(partners=[{"server_name": name, "rooms": []}]) == in_room
    assert await said(partners=[{"server_name": name, "rooms": ["#shared-*"]}]) == ["invited invite"]
    assert await said(partners=[{"server_name": name, "rooms": [name]}]) == ["events room", "sent room"]
    assert await said(partners=[{"server_name": name, "media": False}]) == ["media_given media"]
    assert await said(partners=[{"server_name": name, "max_media_size": 100}]) == ["media_given media_size"]
    assert await said(partners=[{"server_name": name, "presence": False}]) == ["presence_told presence"]
    rate = {"per_second": 1, "burst": 1}
    assert await said(partners=[{"server_name": name, "requests": rate}]) == ["requests requests"]
    found = await would_refuse(core.db, FederationSection(deny=(name,)), core.clock, days=7)
    assert all(each.server_name == name and each.sentence for each in found)
    counted = (await figures(core.db, [name], core.clock))[name]
    assert counted["media_given"] == counted["invited"] == 1


async def test_what_was_counted_has_bounds(federation: Federation) -> None:
    """Of whatever strangers do: in memory and in the database."""
    from federation.partners import activity, store

    here = await federation.start()
    counts = here.app.features.federation.agreements._activity
    for number in range(activity.MAX_UNWRITTEN + 5_000):
        counts.note(ServerName(f"{number}.test"), "events", f"!{number}:test")
    assert len(counts._unwritten) == activity.MAX_UNWRITTEN
    await counts.write()
    async with here.app.core.db.transaction() as tx:
        await store.delete_most_idle(tx, 100)
        assert await tx.value("SELECT count(*) FROM federation_activity") == 100


async def test_authorities_and_pins_of_a_partner(federation: Federation) -> None:
    """DISC-08: of its own certificate authority, and with a key that was agreed; read where it is used."""
    import ssl

    from federation.ports import Ask, Unreachable
    from federation.transport.tls import pin_of

    here, remote = await federation.start(outbound={"extra_ca_files": []}), await federation.remote()
    remote.answers("GET", f"{V1}/version", {"server": {}})
    ask = Ask(method="GET", path=("_matrix", "federation", "v1", "version"), long_retry=False)
    feature = here.app.features.federation
    pin = pin_of(ssl.PEM_cert_to_DER_cert(federation.certificate.read_text()))

    async def answers(**terms: Any) -> bool:
        agree(here, partners=[{"server_name": remote.name, **terms}] if terms else [])
        feature.backoff.reset(remote.name)
        try:
            await feature.client.ask(remote.name, ask, dict[str, Any])
        except Unreachable:
            return False
        return True

    files = [str(federation.certificate)]
    assert not await answers()
    assert await answers(ca_files=files)
    assert await answers(ca_files=files, pins=[f"sha256/{pin}"])
    assert await answers(ca_files=files, pins=["A" * 43, pin])
    assert not await answers(ca_files=files, pins=["A" * 43])
    assert not await answers(pins=[pin])
