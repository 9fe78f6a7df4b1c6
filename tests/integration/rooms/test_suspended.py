"""What a suspended user may still do in rooms: CHECKLIST ACC-02, ACC-03."""

from tests.support.server import Server
from tests.support.user import User

SUSPENDED = (403, "M_USER_SUSPENDED")


async def suspend(server: Server, user: User) -> None:
    assert server.app is not None
    accounts = server.app.features.accounts.accounts
    account = await accounts.find(user.user_id)
    assert account is not None
    await accounts.set_flags(account.user_nid, suspended=True)


async def test_a_suspended_user_takes_back_what_they_said_and_nothing_others_said(server: Server) -> None:
    """ACC-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    own, others = await alice.send(room, "sorry"), await bob.send(room, "hello")
    await suspend(server, alice)
    await alice.redact(room, own)
    assert (await bob.event(room, own))["content"] == {}
    await alice.redact(room, others, expect=SUSPENDED)
    assert (await bob.event(room, others))["content"]["body"] == "hello"
    await alice.send_event(room, "m.room.redaction", {"redacts": others}, expect=SUSPENDED)


async def test_a_suspended_user_reads_leaves_and_turns_down_but_does_not_act(server: Server) -> None:
    """ACC-02, ACC-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await bob.create_room(preset="public_chat")
    await alice.join(room)
    invited = await bob.create_room(invite=[alice.user_id])
    other = await bob.create_room(preset="public_chat")
    await bob.send(room, "hello")
    await suspend(server, alice)
    await alice.sees(room, "hello")
    assert (await alice.messages(room))["chunk"]
    await alice.send(room, "x", expect=SUSPENDED)
    await alice.put_state(room, "m.room.topic", {"topic": "x"}, expect=SUSPENDED)
    await alice.join(other, expect=SUSPENDED)
    await alice.post("/knock/{}", other, json={}, expect=SUSPENDED)
    await alice.create_room(expect=SUSPENDED)
    await alice.invite(room, "@somebody:localhost", expect=SUSPENDED)
    await alice.kick(room, bob, expect=SUSPENDED)
    await alice.leave(room)
    await alice.leave(invited)
    assert (await bob.members(invited))[alice.user_id] == "leave"
