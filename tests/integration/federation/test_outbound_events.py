"""Events of our users are told to the servers in their room, in order, and to nobody else."""

from pathlib import Path

from federation.outbound.interest import NEVER_SENT
from homeserver.graph.refs import SOFT_FAILED
from homeserver.matrix.ids import RoomId
from homeserver.rooms.creation import StateEvent
from tests.integration.graph.test_adoption import adopt, elsewhere
from tests.support.graph import Process, process
from tests.support.outbound import Others, join, numbered, runs, says, sending, until

PUBLIC = {"preset": "public_chat"}
BOB, CAROL, DAVE = "@bob:two", "@carol:three", "@dave:four:8448"


async def message(here: Process, room_id: RoomId, sender: str, text: str) -> None:
    await says(here, room_id, sender, "m.room.message", None, {"msgtype": "m.text", "body": text})


async def test_every_server_in_the_room_gets_everything_in_order(database: str, tmp_path: Path) -> None:
    """FED-08: at most 50 events, one transaction under way for each destination."""
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB, CAROL, DAVE)
        await runs(sender)
        for number in range(130):
            await here.send(alice, room_id, f"m{number}")
        for server in ("two", "three", "four:8448"):
            await until(lambda server=server: len(others.texts(server)) == 130)  # type: ignore[misc]
            assert others.texts(server) == numbered(0, 130)
        assert set(others.taken) == {"two", "three", "four:8448"}
        assert others.most_at_once == 1
        first = others.taken["two"][0].json
        assert first["origin"] == here.core.server_name
        pdu = first["pdus"][0]
        assert "unsigned" not in pdu
        assert "event_id" not in pdu
        assert pdu["signatures"][here.core.server_name]
        others.check_contents()


async def test_only_what_our_users_say_leaves(database: str, tmp_path: Path) -> None:
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice, eve = await here.user("alice"), await here.user("eve")
        alone = await here.room(alice)
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB, CAROL)
        await runs(sender)
        await here.send(alice, alone, "nobody else is here")
        await message(here, room_id, BOB, "two has told everybody itself")
        rejected = await says(here, room_id, eve.user_id, "m.room.message", None, {"body": "not in the room"})
        assert rejected.flags & NEVER_SENT
        await here.send(alice, room_id, "the end")
        await until(lambda: others.texts("two") == others.texts("three") == ["the end"])
        assert SOFT_FAILED & NEVER_SENT


async def test_who_is_removed_hears_of_it_and_of_nothing_after(database: str, tmp_path: Path) -> None:
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB)
        await runs(sender)
        await here.send(alice, room_id, "before carol")
        await join(here, room_id, CAROL)
        await here.send(alice, room_id, "with carol")
        await here.rooms.membership.kick(alice, room_id, BOB, None)
        await here.send(alice, room_id, "without bob")
        await here.rooms.membership.ban(alice, room_id, CAROL, None)
        await here.send(alice, room_id, "alone")
        await here.send(alice, await here.room(alice, **PUBLIC), "elsewhere")
        await until(lambda: len(others.texts("three")) == 4 and len(others.texts("two")) == 3)
        assert others.texts("two") == ["before carol", "with carol", "m.room.member leave"]
        assert others.texts("three") == [
            "with carol",
            "m.room.member leave",
            "without bob",
            "m.room.member ban",
        ]


async def test_whom_an_event_concerned_is_known_when_the_sender_comes_later(
    database: str, tmp_path: Path
) -> None:
    """Nothing of the room is in memory: what has changed since each event is found in the states."""
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        await runs(sender)
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await here.send(alice, room_id, "before bob")
        await join(here, room_id, BOB)
        await here.send(alice, room_id, "with bob")
        await here.rooms.membership.kick(alice, room_id, BOB, None)
        await join(here, room_id, CAROL)
        await here.send(alice, room_id, "with carol alone")
        await join(here, room_id, DAVE)
        await here.send(alice, room_id, "with dave")
    async with process(database, tmp_path) as here, sending(here, others):
        await until(lambda: others.texts("four:8448") == ["with dave"])
        await until(lambda: len(others.texts("three")) == 2)
        assert others.texts("two") == ["with bob", "m.room.member leave"]
        assert others.texts("three") == ["with carol alone", "with dave"]


async def test_rescinded_invites_and_denied_knocks_are_told(database: str, tmp_path: Path) -> None:
    """Nobody else of these servers is in the room."""
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        await runs(sender)
        invited = await here.room(alice)
        await here.rooms.membership.invite(alice, invited, BOB, None)
        await here.rooms.membership.kick(alice, invited, BOB, None)
        knocked = await here.room(
            alice,
            initial_state=[StateEvent("m.room.join_rules", {"join_rule": "knock"})],
        )
        await says(here, knocked, CAROL, "m.room.member", CAROL, {"membership": "knock"})
        await here.rooms.membership.ban(alice, knocked, CAROL, None)
        await here.rooms.membership.unban(alice, knocked, CAROL, None)
        await here.rooms.membership.ban(alice, invited, DAVE, None)  # who was never there
        await until(lambda: bool(others.taken["two"] and others.taken["three"]))
        assert others.texts("two") == ["m.room.member leave"]
        assert others.texts("three") == ["m.room.member ban"]
        assert not others.taken["four:8448"]


async def test_a_denied_server_that_is_in_the_room_is_told_all_the_same(
    database: str, tmp_path: Path
) -> None:
    """ACL-04. spec: client-server-api/#server-access-control-lists-acls-for-rooms"""
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        acl = {"allow": ["*"], "deny": ["two"]}
        room_id = await here.room(alice, **PUBLIC, initial_state=[StateEvent("m.room.server_acl", acl)])
        await join(here, room_id, BOB)
        await runs(sender)
        await here.send(alice, room_id, "for all who are here")
        await until(lambda: others.texts("two") == ["for all who are here"])


async def test_what_has_to_be_passed_on_reaches_all_but_its_sender(database: str, tmp_path: Path) -> None:
    """A join that another server has handed in by /send_join, also after a crash."""
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB, CAROL)
        await runs(sender)
    async with process(database, tmp_path) as here:
        (joined,) = await join(here, room_id, DAVE)
        async with sending(here, Others()) as sender:
            pass  # its sinks are there now; it is not run
        await sender.outbound.relay(joined, ["five", here.core.server_name, "not a name", "two"])
    async with process(database, tmp_path) as here, sending(here, others):
        for server in ("two", "three", "five"):
            await until(lambda server=server: others.texts(server) == ["m.room.member join"])  # type: ignore[misc]
        assert set(others.asked)
        assert {sent.destination for sent in others.asked} == {"two", "three", "five"}


async def test_the_servers_of_a_room_joined_elsewhere_are_told(database: str, tmp_path: Path) -> None:
    """Its state came in bulk, past the projection; at the second join it is another one."""
    others, remote = Others(), elsewhere()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        await runs(sender)
        anna = await here.user("anna")
        room_id = await adopt(here, remote)
        await here.send(anna, room_id, "hello")
        await until(lambda: others.texts("two.example")[-1:] == ["hello"])
        await here.rooms.membership.leave(anna, room_id)
        await until(lambda: others.texts("two.example")[-1:] == ["m.room.member leave"])
        remote.member(str(anna.user_id), "leave")
        remote.join("@zoe:zoe.example")
        assert await adopt(here, remote) == room_id
        await here.send(anna, room_id, "again")
        await until(lambda: others.texts("zoe.example")[-1:] == others.texts("two.example")[-1:] == ["again"])
        # The joins were given to one of them, which tells the others.
        assert others.texts("two.example") == ["hello", "m.room.member leave", "again"]
