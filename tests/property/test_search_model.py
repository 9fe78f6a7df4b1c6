"""Search against a naive model, over generated histories and with two processes on one database (SRCH-01, HV-01, RED-07).

People join, leave, are thrown out and come back, the visibility of history changes, messages are sent, edited and redacted.
Whatever has happened, each word finds for each of them what the model says: the newest text of what they may see.
"""

import random
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from homeserver.search import window
from tests.support import server as support_server
from tests.support.search import indexed, search
from tests.support.server import Server
from tests.support.user import User

STEPS = 70
WORDS = ("apple", "Äpfel", "apples", "りんごの木", "яблоко", "apple pie")
TERMS = ("apple", "appl", "apfel", '"apple pie"', "りんご", "木", "ЯБЛОКО", "pie apple")


def matches(term: str, text: str) -> bool:
    """As somebody would say it who knows these words and no others."""
    return {
        "apple": text in {"apple", "apples", "apple pie"},
        "appl": text in {"apple", "apples", "apple pie"},
        "apfel": text == "Äpfel",
        '"apple pie"': text == "apple pie",
        "りんご": text == "りんごの木",
        "木": text == "りんごの木",
        "ЯБЛОКО": text == "яблоко",
        "pie apple": text == "apple pie",
    }[term]


@dataclass
class Message:
    event_id: str
    sender: str
    at: int
    text: str
    visibility: str
    edits: list["Message"] = field(default_factory=list)
    redacted: bool = False


@dataclass
class Room:
    """What the model knows of a room: moments are numbers of steps."""

    room_id: str
    visibility: str = "shared"
    messages: list[Message] = field(default_factory=list)
    memberships: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def membership(self, user: str, at: int) -> str:
        return next((m for since, m in reversed(self.memberships.get(user, [])) if since <= at), "leave")

    def sees(self, user: str, message: Message, now: int) -> bool:
        """The table of the specification; and for who is out, nothing that came after they went."""
        history = self.memberships.get(user, [])
        joins = [since for since, membership in history if membership == "join"]
        if not joins:
            return False
        inside = self.membership(user, now) == "join"
        went = now if inside else min(since for since, m in history if since > joins[-1])
        if message.at > went:
            return False
        if message.visibility == "world_readable" or self.membership(user, message.at) == "join":
            return True
        return message.visibility == "shared" and (inside or joins[-1] > message.at)

    def found(self, user: str, term: str, now: int) -> set[str]:
        ids = set()
        for message in self.messages:
            if message.redacted or not self.sees(user, message, now):
                continue
            newest = next((edit for edit in reversed(message.edits) if not edit.redacted), message)
            if matches(term, newest.text) and self.sees(user, newest, now):
                ids.add(message.event_id)
        return ids


class Play:
    """A history, as it is acted and as the model has it."""

    def __init__(self, chance: random.Random, owner: list[User], people: list[list[User]]) -> None:
        self.chance = chance
        self.owner = owner
        self.people = people
        self.rooms: list[Room] = []
        self.now = 0

    def at_any(self, user: list[User]) -> User:
        """The same person, at this process or at that."""
        return self.chance.choice(user)

    async def step(self) -> None:
        self.now += 1
        act = self.chance.choice(
            [self.say, self.say, self.edit, self.redact, self.move, self.move, self.hide]
        )
        await act(self.chance.choice(self.rooms))

    async def say(self, room: Room) -> None:
        speakers = [
            p for p in (*self.people, self.owner) if room.membership(p[0].user_id, self.now) == "join"
        ]
        speaker = self.chance.choice(speakers)
        text = self.chance.choice(WORDS)
        event_id = await self.at_any(speaker).send(room.room_id, text)
        room.messages.append(Message(event_id, speaker[0].user_id, self.now, text, room.visibility))

    async def edit(self, room: Room) -> None:
        own = [m for m in room.messages if m.sender == self.owner[0].user_id and not m.redacted]
        if not own:
            return
        message, text = self.chance.choice(own), self.chance.choice(WORDS)
        content = {
            "m.relates_to": {"rel_type": "m.replace", "event_id": message.event_id},
            "m.new_content": {"msgtype": "m.text", "body": text},
        }
        event_id = await self.at_any(self.owner).send(room.room_id, f"* {text}", **content)
        message.edits.append(Message(event_id, self.owner[0].user_id, self.now, text, room.visibility))

    async def redact(self, room: Room) -> None:
        every = [each for m in room.messages for each in (m, *m.edits) if not each.redacted]
        if every and self.chance.random() < 0.6:
            gone = self.chance.choice(every)
            await self.at_any(self.owner).redact(room.room_id, gone.event_id)
            gone.redacted = True

    async def move(self, room: Room) -> None:
        person = self.chance.choice(self.people)
        user, before = person[0].user_id, room.membership(person[0].user_id, self.now)
        act = self.chance.choice(["join", "join", "leave", "kick", "ban"])
        owner = self.at_any(self.owner)
        after = before
        if before == "ban":
            await owner.unban(room.room_id, user)
            after = "leave"
        elif act == "join" and before != "join":
            await self.at_any(person).join(room.room_id)
            after = "join"
        elif act == "ban":
            await owner.ban(room.room_id, user)
            after = "ban"
        elif before == "join" and act == "kick":
            await owner.kick(room.room_id, user)
            after = "leave"
        elif before == "join" and act == "leave":
            await self.at_any(person).leave(room.room_id)
            after = "leave"
        if after != before:
            room.memberships.setdefault(user, []).append((self.now, after))

    async def hide(self, room: Room) -> None:
        room.visibility = self.chance.choice(["shared", "joined", "world_readable", "shared"])
        content = {"history_visibility": room.visibility}
        await self.at_any(self.owner).put_state(room.room_id, "m.room.history_visibility", content)

    async def compare(self) -> None:
        for person in (*self.people, self.owner):
            for term in TERMS:
                expected = set().union(
                    *(room.found(person[0].user_id, term, self.now) for room in self.rooms)
                )
                assert await self.all_pages(person, term) == expected, (self.now, person[0].user_id, term)

    async def all_pages(self, person: list[User], term: str) -> set[str]:
        """In pages of three, in either order, at whichever process."""
        order = self.chance.choice(["rank", "recent"])
        ids: list[str] = []
        positions: list[float] = []
        token = None
        while True:
            answer = await search(
                self.at_any(person), term, next_batch=token, order_by=order, filter={"limit": 3}
            )
            ids += [each["result"]["event_id"] for each in answer["results"]]
            positions += [each["rank"] for each in answer["results"]]
            assert answer["count"] >= len(ids)
            token = answer.get("next_batch")
            if token is None:
                break
        assert len(ids) == len(set(ids))
        if order == "rank":
            assert all(first >= second for first, second in pairwise(positions))
        return set(ids)


@pytest.mark.parametrize("seed", range(4))
async def test_each_finds_the_newest_text_of_what_they_may_see(
    database: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "FIRST", (4_096, 8, 1, 1)[seed])  # the rest is asked of the index
    monkeypatch.setattr(window, "SCANNED", (32_768, 0, 0, 16)[seed])
    key = {"signing_key_path": str(tmp_path / "signing.key")}  # one server on two hosts
    shared: dict[str, Any] = {"database": {"shared": True}, "server": key}
    async with (
        support_server.run(database, tmp_path / "one", **shared) as one,
        support_server.run(database, tmp_path / "two", **shared) as two,
    ):
        chance = random.Random(seed)
        people = [await _everywhere(one, two, name) for name in ("owner", "ann", "ben")]
        play = Play(chance, people[0], people[1:])
        for _ in range(2):
            room_id = await people[0][0].create_room(preset="public_chat")
            play.rooms.append(Room(room_id, memberships={people[0][0].user_id: [(0, "join")]}))
        for step in range(1, STEPS + 1):
            await play.step()
            if step % 35 == 0:
                await indexed(one, two)
                await play.compare()


async def _everywhere(one: Server, two: Server, name: str) -> list[User]:
    """One session, at both processes."""
    user = await one.register(name)
    other = User(two.client, user.user_id, user.token, user.device_id)
    return [user, other]
