"""What phones lack whose gateway was away is found for many of them together (PUSH-14)."""

from typing import Any

import pytest

from homeserver.log.readers.types import Behind
from homeserver.push.pushers import resume as module
from homeserver.push.pushers.interest import key_of
from homeserver.push.pushers.resume import NEWEST, Caught, Resume
from homeserver.storage import connection
from tests.support.server import Server
from tests.support.unread import RECEIPT, in_thread, looked_at, meeting
from tests.support.user import User

URL = "https://push.example.com/_matrix/push/v1/notify"


def resume_of(server: Server) -> Resume:
    assert server.app is not None
    readers = server.app.features.readers.readers
    found = readers["pushers"].resume.__self__
    assert isinstance(found, Resume)
    return found


async def behind(server: Server, user: User, after: int, *, url: str = URL) -> Behind:
    assert server.app is not None
    nid = await server.app.core.interning.user_nid(user.user_id)
    return Behind(key=key_of(nid, url), after=after, upto=server.app.core.tail.position, failures=3)


def told(slice_: Any) -> list[str]:
    """Ids of events; what stands for everything comes last."""
    *items, last = slice_.items
    assert isinstance(last.value, Caught)
    assert [item.position for item in items] == sorted({item.position for item in items})
    return [item.value.event.event_id for item in items]


async def test_each_gets_what_they_lack_themselves(server: Server) -> None:
    """Read and unread, threads, ignored people, rooms they have left, invites; two gateways of one user."""
    assert server.app is not None
    room, (alice, bob, carol, dave, erin) = await meeting(server, "alice", "bob", "carol", "dave", "erin")
    other = await alice.create_room(preset="public_chat")
    await bob.join(other)
    before = server.app.core.tail.position
    await erin.put(
        "/user/{}/account_data/{}",
        erin.user_id,
        "m.ignored_user_list",
        json={"ignored_users": {alice.user_id: {}}},
    )
    root = await alice.send(room, "root")
    reply = await alice.send(room, "reply", **in_thread(root))
    elsewhere = await alice.send(other, "elsewhere")
    between = server.app.core.tail.position
    hers = await carol.send(room, "hers")
    gone = await carol.send(room, "gone")
    await carol.put("/rooms/{}/redact/{}/{}", room, gone, "r1", json={})
    await bob.post(RECEIPT, room, "m.read", reply, json={"thread_id": root})
    await carol.post(RECEIPT, room, "m.read", root)
    await dave.post("/rooms/{}/leave", room)
    await looked_at(server)
    resume = resume_of(server)
    asked = [
        await behind(server, bob, before),
        await behind(server, bob, between, url=f"{URL}?other"),
        await behind(server, carol, before),
        await behind(server, dave, before),
        await behind(server, erin, before),
    ]
    together = await resume.of_many(asked)
    spoken = [
        [each for each in told(one) if each in {root, reply, elsewhere, hers, gone}] for one in together
    ]
    assert spoken == [[root, elsewhere, hers], [hers], [reply], [], [hers]]
    assert [one.upto for one in together] == [each.upto for each in asked]
    alone = [await resume.of(each) for each in asked]
    assert list(map(told, together)) == list(map(told, alone)), "as if each had asked alone"
    invited = await alice.create_room(invite=[dave.user_id])
    (late,) = await resume.of_many([await behind(server, dave, between)])
    assert late.items[0].value.event.room_id == invited


async def test_a_hundred_cost_the_statements_of_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each is told of the newest alone."""
    assert server.app is not None
    room, (alice, *users) = await meeting(server, "alice", *(f"phone{n}" for n in range(4)))
    before = server.app.core.tail.position
    sent = [await alice.send(room, f"{n}") for n in range(NEWEST + 5)]
    resume = resume_of(server)
    asked = [await behind(server, user, before, url=f"{URL}?n={n}") for user in users for n in range(25)]
    statements: list[bytes] = []
    real = connection.Connection.run

    async def run(self: connection.Connection, commands: Any) -> Any:
        statements.extend(statement.sql for statement, _ in commands)
        return await real(self, commands)

    monkeypatch.setattr(connection.Connection, "run", run)
    found = await resume.of_many(asked)
    assert len(found) == len(asked) == 100
    assert all(told(each) == sent[5:] for each in found)
    own = [sql for sql in statements if b"ignores (who" in sql or b" pair" in sql]
    assert len(own) == 3, own


async def test_long_lists_are_searched_for_apart(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is in very many rooms is asked for alone; the answer is for the first of those that were asked for."""
    assert server.app is not None
    _, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    asked = [await behind(server, user, 0) for user in (alice, bob, carol)]
    monkeypatch.setattr(module, "MAX_ROOMS", 2)
    assert len(await resume_of(server).of_many(asked)) == 2
    monkeypatch.setattr(module, "MAX_ROOMS", 0)
    assert len(await resume_of(server).of_many(asked)) == 1
