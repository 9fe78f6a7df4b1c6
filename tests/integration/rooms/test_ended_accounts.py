"""What is left of an account that has ended: CHECKLIST AUTH-29."""

from typing import Any

from homeserver.storage.database import Database
from tests.support.crypto import DeviceCrypto
from tests.support.server import PASSWORD, Server
from tests.support.user import User

KEPT = {
    "accounts": "its name is never given again",
    "current_state": "rooms remember who was in them",
    "past_memberships": "rooms remember who was in them",
    "memberships": "a view of both",
    "receipts": "rooms remember what was read",
    "device_list_changes": "others are told that the devices are gone",
    "presence": "that they went offline",
    "users": "a number for a name that stands in events",
    "once": "transaction ids, until they expire",
}


async def end(user: User, **body: Any) -> None:
    auth = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD}
    await user.post("/account/deactivate", json={"auth": auth, **body})


async def rows_of(server: Server, user: User) -> dict[str, int]:
    """Table -> rows that name the user, for all tables there are."""
    async with Database(server.dsn, size=1) as db, db.read() as tx:
        tables = await tx.column(
            """
            SELECT table_name FROM information_schema.columns
            WHERE column_name = 'user_nid' AND table_schema = 'public' ORDER BY table_name
            """
        )
        nid = await tx.value("SELECT user_nid FROM users WHERE user_id = %(id)s", id=user.user_id)
        found = {}
        for table in tables:
            count = await tx.value(f"SELECT count(*) FROM {table} WHERE user_nid = %(nid)s", nid=nid)
            if count:
                found[table] = count
    return found


async def lived_in(server: Server) -> User:
    """A user with something of everything that is kept."""
    alice = await server.register("alice")
    await alice.put("/user/{}/account_data/{}", alice.user_id, "org.example", json={"a": 1})
    await alice.put("/pushrules/global/room/{}", "!a:b", json={"actions": []})
    await alice.post("/user/{}/filter", alice.user_id, json={"room": {"timeline": {"limit": 3}}})
    backup = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "x"}}
    await alice.post("/room_keys/version", json=backup)
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    await DeviceCrypto(alice).upload(3, fallback=True)
    await alice.post("/user/{}/openid/request_token", alice.user_id)
    await alice.put("/sendToDevice/m.test/1", json={"messages": {alice.user_id: {"*": {}}}})
    await alice.create_room()
    return alice


async def test_nothing_is_kept_of_an_ended_account_but_what_others_need(server: Server) -> None:
    """AUTH-29."""
    alice = await lived_in(server)
    before = await rows_of(server, alice)
    assert {
        "account_data",
        "push_rules",
        "filters",
        "key_backups",
        "device_keys",
        "profiles",
    } <= before.keys()
    await end(alice)
    left = (await rows_of(server, alice)).keys() - KEPT.keys()
    assert not left


async def body_of(user: User, room: str, event_id: str) -> Any:
    return (await user.event(room, event_id))["content"].get("body")


async def test_whoever_joins_later_sees_nothing_an_erased_user_said(server: Server) -> None:
    """AUTH-29: those who were there keep what they heard."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    said, answer = await alice.send(room, "my secret"), await bob.send(room, "hm")
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    await bob.sees(room, "my secret")
    await end(alice, erase=True)
    carol = await server.register("carol")
    await carol.join(room)
    assert await body_of(bob, room, said) == "my secret"
    assert await body_of(carol, room, said) is None
    assert await body_of(carol, room, answer) == "hm"
    shown = [e for e in (await carol.messages(room, limit=100))["chunk"] if e["sender"] == alice.user_id]
    assert shown
    assert not [e for e in shown if "displayname" in e["content"] or "body" in e["content"]]
    assert not [e for e in shown if "prev_content" in e["unsigned"]]
    around = await carol.get("/rooms/{}/context/{}", room, answer, params={"limit": 10})
    assert "my secret" not in str(around)
    assert "my secret" not in str(await carol.sync(since=None))
    old = [e for e in (await bob.messages(room, limit=100))["chunk"] if e["event_id"] == said]
    assert old[0]["content"]["body"] == "my secret"


async def test_edits_and_threads_do_not_tell_what_an_erased_user_said(server: Server) -> None:
    """AUTH-29."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await bob.create_room(preset="public_chat")
    await alice.join(room)
    said, root = await alice.send(room, "my secret"), await bob.send(room, "what?")
    edit = {"rel_type": "m.replace", "event_id": said}
    new = {"msgtype": "m.text", "body": "a new secret"}
    await alice.send(room, "* a new secret", **{"m.relates_to": edit, "m.new_content": new})
    await alice.send(room, "a third secret", **{"m.relates_to": {"rel_type": "m.thread", "event_id": root}})
    await end(alice, erase=True)
    carol = await server.register("carol")
    await carol.join(room)
    for seen in (
        await carol.event(room, said),
        await carol.event(room, root),
        await carol.messages(room, limit=100),
        await carol.get("/_matrix/client/v1/rooms/{}/relations/{}", room, said),
        await carol.sync(since=None),
    ):
        assert "secret" not in str(seen)


async def test_without_the_wish_to_be_erased_history_stays_as_it_was(server: Server) -> None:
    """AUTH-29."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    said = await alice.send(room, "hello")
    await end(alice)
    await bob.join(room)
    assert await body_of(bob, room, said) == "hello"


async def test_erasure_is_known_to_every_process(two_servers_processes: Server) -> None:
    """AUTH-29."""
    server = two_servers_processes
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    said = await alice.send(room, "my secret")
    await bob.join(room)
    for _ in range(8):  # whichever process answers has looked for erased users by then
        assert await body_of(bob, room, said) == "my secret"
    await end(alice, erase=True)
    for _ in range(8):
        assert await body_of(bob, room, said) is None
