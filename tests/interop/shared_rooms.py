"""Plays in rooms that people here share with people of another homeserver, whichever server made the room.

The tests that have them played say with whom: `test_synapse_*.py`, `test_dendrite_*.py`. What a program is known not to do
(`Partner.lacks`) is left out where it is the one that would have to do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.partner import Partner, until_member
from tests.support.pictures import picture
from tests.support.server import Server
from tests.support.user import Event, User

OWNERS = pytest.mark.parametrize("ours", [True, False], ids=["our room", "their room"])
NAMED_IN_CONTENT = 11
"""From this room version on a redaction says in its content what it redacts."""
PATIENCE = 60  # seconds; the machine may be busy


@dataclass
class Play:
    """Two people, each on a server of their own: the owner of rooms, and who comes into them."""

    owner: User
    guest: User
    home: str
    """The owner's server."""
    partner: Partner

    @classmethod
    async def begin(cls, here: Server, partner: Partner, *, ours: bool) -> Play:
        anna, sven = await here.register("anna"), await partner.register("sven")
        owner, guest, home = (anna, sven, here.name) if ours else (sven, anna, partner.name)
        return cls(owner, guest, home, partner)

    def does(self, verb: str, *who: User) -> bool:
        """Whether those of them who are the partner's have a server that does this."""
        return verb not in self.partner.lacks or all(user.server_name != self.partner.name for user in who)

    async def room(self, **options: Any) -> str:
        """One in which both are."""
        room = await self.owner.create_room(preset="public_chat", **options)
        await self.guest.join(room, via=[self.home])
        await until_member(self.owner, room, self.guest.user_id, "join")
        return room

    def both(self) -> list[tuple[User, User]]:
        """(who does something, who sees it)"""
        return [(self.owner, self.guest), (self.guest, self.owner)]


async def until(probe: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE) -> Any:
    """What it answers, once that is true."""
    for _ in range(round(seconds * 10)):
        if found := await probe():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s")


async def bodies(user: User, room: str) -> list[str]:
    """What is said, oldest first, as the pages have it."""
    return [
        event["content"]["body"]
        for event in await paged(user, room)
        if event["type"] == "m.room.message" and "body" in event["content"]
    ]


async def ids(user: User, room: str) -> list[str]:
    """The ids of all events, oldest first, as the pages have them."""
    return [event["event_id"] for event in await paged(user, room)]


async def has_state(user: User, room: str, kind: str, content: Event, key: str = "") -> None:
    async def same() -> bool:
        answer = await user.exchange("GET", "/rooms/{}/state/{}/{}", room, kind, key, expect=None)
        return answer.status == 200 and bool(answer.json == content)

    await until(same, f"{kind} is {content} for {user.user_id}")


# ---------------------------------------------------------------------------------------------------------------- a chat


async def messages(play: Play, room: str, *, many: bool) -> None:
    """One after the other, and as fast as they can be sent: in that order on both sides."""
    said = []
    for number in range(10 if many else 2):
        for actor, witness in play.both():
            text = f"{actor.localpart} {number}"
            said.append(text)
            await actor.send(room, text)
            await witness.sees(room, text, timeout=PATIENCE)
    flat_out = [f"quick {number}" for number in range(50 if many else 5)]
    for actor, witness in play.both():
        for text in flat_out:
            await actor.send(room, f"{actor.localpart} {text}")
        await witness.sees(room, f"{actor.localpart} {flat_out[-1]}", timeout=PATIENCE)
        said += [f"{actor.localpart} {text}" for text in flat_out]
    for user, _ in play.both():
        assert await bodies(user, room) == said, user.user_id


async def referring(play: Play, room: str) -> None:
    for actor, witness in play.both():
        event_id = await actor.send(room, "tpyo")
        await witness.sees(room, event_id, timeout=PATIENCE)
        reply = {"rel_type": "m.replace", "event_id": event_id}
        new = {"msgtype": "m.text", "body": "typo"}
        edit = await actor.send(room, "* typo", **{"m.new_content": new, "m.relates_to": reply})
        await witness.sees(room, edit, timeout=PATIENCE)
        if play.does("aggregated relations", witness):
            seen = await witness.event(room, event_id)
            assert seen["unsigned"]["m.relations"]["m.replace"]["event_id"] == edit

        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": "👍"}
        reaction = await witness.send_event(room, "m.reaction", {"m.relates_to": relation})
        await actor.sees(room, reaction, timeout=PATIENCE)
        related = await actor.get("/_matrix/client/v1/rooms/{}/relations/{}/m.annotation", room, event_id)
        assert [event["event_id"] for event in related["chunk"]] == [reaction]

        redaction = await actor.redact(room, event_id, "wrong")
        await is_redacted(play, witness, room, event_id, redaction)
    theirs = await play.guest.send(room, "rude")
    await play.owner.sees(room, theirs, timeout=PATIENCE)
    redaction = await play.owner.redact(room, theirs)
    await is_redacted(play, play.guest, room, theirs, redaction)


async def is_redacted(play: Play, witness: User, room: str, event_id: str, redaction: str) -> None:
    version = int((await witness.state(room, "m.room.create"))["room_version"])
    if version < NAMED_IN_CONTENT or play.does("redactions named in content", witness):
        await witness.sees(room, redaction, timeout=PATIENCE)
        redacted = await witness.event(room, event_id)
        assert redacted["content"] == {}
        assert redacted["unsigned"]["redacted_because"]["event_id"] == redaction


async def state_changes(play: Play, room: str) -> None:
    owner, guest = play.owner, play.guest
    await owner.put_state(room, "m.room.name", {"name": "Renamed"})
    await has_state(guest, room, "m.room.name", {"name": "Renamed"})
    await guest.put_state(room, "m.room.topic", {"topic": "x"}, expect=(403, "M_FORBIDDEN"))
    levels = await owner.state(room, "m.room.power_levels")
    levels.setdefault("users", {})[guest.user_id] = 50
    await owner.put_state(room, "m.room.power_levels", levels)
    await has_state(guest, room, "m.room.power_levels", levels)
    await guest.put_state(room, "m.room.topic", {"topic": "Theirs"})
    await has_state(owner, room, "m.room.topic", {"topic": "Theirs"})
    await same_state(play, room)


async def same_state(play: Play, room: str) -> None:
    async def state_of(user: User) -> set[str]:
        return {event["event_id"] for event in await user.state(room)}

    async def same() -> bool:
        return await state_of(play.owner) == await state_of(play.guest)

    await until(same, "the state is the same on both sides")


async def ephemeral(play: Play, room: str) -> None:
    for actor, witness in play.both():
        last = await actor.send(room, "read this")
        await witness.sees(room, last, timeout=PATIENCE)
        await actor.put("/rooms/{}/typing/{}", room, actor.user_id, json={"typing": True, "timeout": 20_000})
        await witness.sync_until(
            lambda reply, actor=actor: actor.user_id in typing(reply, room), timeout=PATIENCE
        )
        await actor.put("/rooms/{}/typing/{}", room, actor.user_id, json={"typing": False})
        await witness.sync_until(
            lambda reply, actor=actor: actor.user_id not in typing(reply, room, frozenset({actor.user_id})),
            timeout=PATIENCE,
        )
        await witness.post("/rooms/{}/receipt/m.read/{}", room, last)
        await actor.sync_until(
            lambda reply, last=last, witness=witness: (
                witness.user_id in receipts(reply, room).get(last, {}).get("m.read", {})
            ),
            timeout=PATIENCE,
        )


def _ephemeral(reply: Event, room: str, kind: str) -> list[Event]:
    events = reply.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {}).get("events", [])
    return [event["content"] for event in events if event["type"] == kind]


def typing(reply: Event, room: str, unknown: frozenset[str] = frozenset()) -> frozenset[str]:
    found = _ephemeral(reply, room, "m.typing")
    return frozenset(found[-1]["user_ids"]) if found else unknown


def receipts(reply: Event, room: str) -> Event:
    return {
        event_id: kinds
        for content in _ephemeral(reply, room, "m.receipt")
        for event_id, kinds in content.items()
    }


async def moderation(play: Play, room: str) -> None:
    owner, guest, home = play.owner, play.guest, play.home
    await owner.kick(room, guest, reason="out")
    await until_member(owner, room, guest.user_id, "leave")
    await guest.sync_until(lambda reply: room in reply.get("rooms", {}).get("leave", {}), timeout=PATIENCE)
    await guest.send(room, "still here?", expect=(403, "M_FORBIDDEN"))
    await owner.send(room, "not for them")
    await guest.join(room, via=[home])
    await until_member(owner, room, guest.user_id, "join")
    back = await guest.send(room, "back")
    await owner.sees(room, back, timeout=PATIENCE)
    await owner.ban(room, guest)
    await guest.sync_until(lambda reply: room in reply.get("rooms", {}).get("leave", {}), timeout=PATIENCE)
    await guest.join(room, via=[home], expect=(403, "M_FORBIDDEN"))
    await owner.unban(room, guest)
    await guest.join(room, via=[home])
    await until_member(owner, room, guest.user_id, "join")
    await guest.leave(room)
    await until_member(owner, room, guest.user_id, "leave")


# ------------------------------------------------------------------------------------------------------ what is looked up


async def profiles(play: Play) -> None:
    owner, guest = play.owner, play.guest
    await owner.put("/profile/{}/displayname", owner.user_id, json={"displayname": "Owner"})
    assert (await guest.get("/profile/{}", owner.user_id))["displayname"] == "Owner"
    assert (await guest.get("/profile/{}/displayname", owner.user_id)) == {"displayname": "Owner"}
    await guest.get("/profile/{}", f"@nobody:{play.home}", expect=(404, "M_NOT_FOUND"))
    room = await play.room()
    await owner.put("/profile/{}/displayname", owner.user_id, json={"displayname": "Renamed"})

    async def renamed() -> bool:
        member = await guest.state(room, "m.room.member", owner.user_id)
        return bool(member.get("displayname") == "Renamed")

    await until(renamed, "the new name is in the room")


async def directory(play: Play) -> None:
    owner, guest = play.owner, play.guest
    name = f"lounge-{owner.localpart}"
    room = await owner.create_room(
        preset="public_chat", room_alias_name=name, visibility="public", name=f"The {name}", topic="Talk"
    )
    alias = f"#{name}:{play.home}"
    answer = await guest.get("/directory/room/{}", alias)
    assert answer["room_id"] == room
    assert play.home in answer["servers"]
    if play.does("aliases that are not there", guest):
        await guest.get("/directory/room/{}", f"#none:{play.home}", expect=(404, "M_NOT_FOUND"))

    async def listed() -> bool:
        rooms = await guest.get("/publicRooms", params={"server": play.home})
        return room in {entry["room_id"] for entry in rooms["chunk"]}

    await until(listed, "the room is in the list")  # Synapse writes it later
    body = {"filter": {"generic_search_term": name}, "limit": 10}
    found = await guest.post("/publicRooms", json=body, params={"server": play.home})
    assert [entry["room_id"] for entry in found["chunk"]] == [room]
    assert found["chunk"][0]["topic"] == "Talk"
    await guest.join(alias)
    await until_member(owner, room, guest.user_id, "join")


async def spaces(play: Play) -> None:
    owner, guest, home = play.owner, play.guest, play.home
    space = await owner.create_room(preset="public_chat", creation_content={"type": "m.space"}, name="Space")
    child = await owner.create_room(preset="public_chat", name="Child")
    secret = await owner.create_room(preset="private_chat", name="Secret")
    for room in (child, secret):
        await owner.put_state(space, "m.space.child", {"via": [home]}, room)
    await guest.join(space, via=[home])
    hierarchy = await guest.get("/_matrix/client/v1/rooms/{}/hierarchy", space)
    assert {room["room_id"] for room in hierarchy["rooms"]} == {space, child}
    if play.does("room summaries", guest):
        summary = await guest.get("/_matrix/client/v1/room_summary/{}", child, params={"via": [home]})
        assert summary["name"] == "Child"


async def media(play: Play) -> None:
    owner, guest = play.owner, play.guest
    shown = picture(size=(64, 48))
    options: dict[str, Any] = {"data": shown, "headers": {"Content-Type": "image/png"}}
    uploaded = await owner.post("/_matrix/media/v3/upload", params={"filename": "a.png"}, **options)
    server, _, media_id = uploaded["content_uri"].removeprefix("mxc://").partition("/")
    answer = await guest.exchange("GET", "/_matrix/client/v1/media/download/{}/{}", server, media_id)
    assert answer.body == shown
    assert answer.headers["content-type"] == "image/png"
    if play.does("names of files", owner, guest):
        assert "a.png" in answer.headers["content-disposition"]
    size = {"width": 32, "height": 32, "method": "scale"}
    path = "/_matrix/client/v1/media/thumbnail/{}/{}"
    thumbnail = await guest.exchange("GET", path, server, media_id, params=size)
    assert thumbnail.headers["content-type"].startswith("image/")
    await guest.exchange(
        "GET", "/_matrix/client/v1/media/download/{}/{}", server, "none", expect=(404, "M_NOT_FOUND")
    )


# ----------------------------------------------------------------------------------------------------------------- history


async def paged(user: User, room: str) -> list[Event]:
    """All events of a room, oldest first, as the pages have them."""
    found: list[Event] = []
    at: str | None = None
    for _ in range(60):
        page = await user.messages(room, limit=100, from_=at)
        found += page["chunk"]
        at = page.get("end")
        if at is None:
            break
    once = {event["event_id"]: event for event in found}
    assert len(once) == len(found) or not user.client.contract, "an event twice"  # Dendrite's pages overlap
    return list(once.values())[::-1]
