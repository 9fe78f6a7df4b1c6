"""matrix-nio, a client in Python: the same chat, read by another program's eyes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nio
import pytest

from tests.interop.nio_person import NioPerson, accepted
from tests.interop.plays import Asked, Play, need_node

pytestmark = pytest.mark.interop

PAGED = 500


@pytest.fixture
async def people(base_url: str) -> AsyncIterator[tuple[NioPerson, NioPerson]]:
    async with AsyncExitStack() as stack:
        alice = await NioPerson.register(base_url, "alice")
        stack.push_async_callback(alice.close)
        bob = await NioPerson.register(base_url, "bob")
        stack.push_async_callback(bob.close)
        yield alice, bob


async def room_of(alice: NioPerson, bob: NioPerson) -> str:
    created = accepted(
        await alice.client.room_create(name="Kitchen", topic="who washes up", invite=[bob.user_id])
    )
    room_id: str = created.room_id
    await bob.joins(room_id)
    await alice.until("Bob in the room", lambda: bob.user_id in alice.client.rooms[room_id].users)
    return room_id


async def test_two_people_chat(people: tuple[NioPerson, NioPerson]) -> None:
    alice, bob = people
    room_id = await room_of(alice, bob)
    seen = bob.client.rooms[room_id]
    await bob.until("name and topic", lambda: (seen.name, seen.topic) == ("Kitchen", "who washes up"))
    for speaker, listener, text in [(alice, bob, "hello"), (bob, alice, "grüß dich 👋"), (alice, bob, "bye")]:
        event_id = await speaker.says(room_id, text)
        event = await listener.reads(room_id, text)
        assert (event.event_id, event.sender) == (event_id, speaker.user_id)
    for person in people:
        assert [event.body for event in person.seen(room_id, nio.RoomMessageText)] == [
            "hello",
            "grüß dich 👋",
            "bye",
        ]


async def test_edits_reactions_threads_and_redactions_arrive(people: tuple[NioPerson, NioPerson]) -> None:
    alice, bob = people
    room_id = await room_of(alice, bob)
    original = await alice.says(room_id, "the coffe is ready")
    await bob.reads(room_id, "the coffe is ready")

    corrected = {"msgtype": "m.text", "body": "the coffee is ready"}
    replaces = {"rel_type": "m.replace", "event_id": original}
    await alice.says(
        room_id, "* the coffee is ready", **{"m.new_content": corrected, "m.relates_to": replaces}
    )
    edit = await bob.reads(room_id, "* the coffee is ready")
    assert edit.source["content"]["m.relates_to"] == replaces

    relation = {"rel_type": "m.annotation", "event_id": original, "key": "☕"}
    accepted(await bob.client.room_send(room_id, "m.reaction", {"m.relates_to": relation}))
    reaction = await alice.until("the reaction", lambda: next(alice.seen(room_id, nio.ReactionEvent), None))
    assert (reaction.reacts_to, reaction.key, reaction.sender) == (original, "☕", bob.user_id)

    in_thread = {"rel_type": "m.thread", "event_id": original}
    await bob.says(room_id, "on my way", **{"m.relates_to": in_thread})
    answer = await alice.reads(room_id, "on my way")
    assert answer.source["content"]["m.relates_to"] == in_thread

    accepted(await alice.client.room_redact(room_id, original, reason="there is none left"))
    redaction = await bob.until("the redaction", lambda: next(bob.seen(room_id, nio.RedactionEvent), None))
    assert (redaction.redacts, redaction.reason) == (original, "there is none left")
    read_again = accepted(await bob.client.room_get_event(room_id, original)).event
    assert isinstance(read_again, nio.RedactedEvent)
    assert read_again.source["content"] == {}


async def test_profiles_typing_and_receipts_reach_the_room(people: tuple[NioPerson, NioPerson]) -> None:
    alice, bob = people
    room_id = await room_of(alice, bob)
    picture = "mxc://localhost/aliceaspicture"
    accepted(await alice.client.set_displayname("Alice Liddell"))
    accepted(await alice.client.set_avatar(picture))
    profile = accepted(await bob.client.get_profile(alice.user_id))
    assert (profile.displayname, profile.avatar_url) == ("Alice Liddell", picture)
    seen = bob.client.rooms[room_id].users[alice.user_id]
    await bob.until(
        "her name and picture", lambda: (seen.display_name, seen.avatar_url) == ("Alice Liddell", picture)
    )

    accepted(await alice.client.room_typing(room_id, typing_state=True, timeout=20_000))
    await bob.until("Alice typing", lambda: alice.user_id in bob.client.rooms[room_id].typing_users)
    event_id = await alice.says(room_id, "did you read this?")
    await bob.reads(room_id, "did you read this?")
    accepted(await bob.client.room_read_markers(room_id, event_id, event_id))
    receipts = alice.client.rooms[room_id].read_receipts
    await alice.until(
        "the receipt", lambda: bob.user_id in receipts and receipts[bob.user_id].event_id == event_id
    )


async def test_a_new_device_pages_back_through_500_messages(
    people: tuple[NioPerson, NioPerson], base_url: str
) -> None:
    alice, bob = people
    room_id = await room_of(alice, bob)
    lines = [f"line {number}" for number in range(PAGED)]
    for number, text in enumerate(lines):
        await people[number % 2].says(room_id, text)
    late = await NioPerson.log_in(base_url, bob.user_id, bob.password)
    try:
        found: list[nio.Event] = []
        token: str | None = late.client.next_batch
        for _ in range(PAGED):
            page = accepted(await late.client.room_messages(room_id, start=token or "", limit=40))
            found += page.chunk
            token = page.end
            if not token:
                break
    finally:
        await late.close()
    texts = [event.body for event in reversed(found) if isinstance(event, nio.RoomMessageText)]
    assert texts == lines
    assert len({event.event_id for event in found}) == len(found)
    assert isinstance(found[-1], nio.RoomCreateEvent)


async def test_a_token_is_worth_nothing_after_logout(people: tuple[NioPerson, NioPerson]) -> None:
    alice, bob = people
    await bob.stop_syncing()
    token = bob.client.access_token
    accepted(await bob.client.logout())
    bob.client.access_token = token
    refused = await bob.client.whoami()
    assert isinstance(refused, nio.ErrorResponse)
    assert refused.status_code == "M_UNKNOWN_TOKEN"
    accepted(await alice.client.whoami())


class NioInAPlay:
    """What the play `with-nio` asks of the person at nio."""

    def __init__(self, base_url: str, store: Path) -> None:
        self.base_url, self.store = base_url, store
        self.person: NioPerson

    async def register(self, _: Asked) -> Mapping[str, Any]:
        self.person = await NioPerson.register(self.base_url, "nora", self.store)
        return {"userId": self.person.user_id}

    async def join(self, asked: Asked) -> Mapping[str, Any]:
        await self.person.joins(asked["roomId"])
        return {}

    async def says(self, asked: Asked) -> Mapping[str, Any]:
        return {"eventId": await self.person.says(asked["roomId"], asked["text"])}

    async def reads(self, asked: Asked) -> Mapping[str, Any]:
        event = await self.person.reads(asked["roomId"], asked["text"])
        assert event.decrypted
        return {}

    async def close(self, _: Asked) -> Mapping[str, Any]:
        await self.person.close()
        return {}

    async def open(self, _: Asked) -> Mapping[str, Any]:
        await self.person.reopen()
        return {}


async def test_nio_and_js_sdk_share_an_encrypted_room(base_url: str, tmp_path: Path) -> None:
    need_node()
    store = tmp_path / "nio"
    store.mkdir()
    nora = NioInAPlay(base_url, store)
    answers = {name: getattr(nora, name) for name in ("register", "join", "says", "reads", "close", "open")}
    play = Play("with-nio", base_url, tmp_path, answers)
    try:
        await play.run(seconds=300)
    finally:
        if hasattr(nora, "person"):
            await nora.person.close()
    assert play.seen[-1] == "nothing missed while away"
