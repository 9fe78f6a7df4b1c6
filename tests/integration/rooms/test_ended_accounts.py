"""What is left of an account that has ended: CHECKLIST AUTH-29."""

from typing import Any

from homeserver.storage.database import Database
from tests.support.crypto import DeviceCrypto
from tests.support.server import PASSWORD, Server
from tests.support.user import User

KEPT = {
    "accounts": "its name is never given again",
    "current_state": "rooms remember who was in them",
    "memberships": "rooms remember who was in them",
    "receipts": "rooms remember what was read",
    "device_list_changes": "others are told that the devices are gone",
    "presence": "that they went offline",
    "users": "a number for a name that stands in events",
    "once": "transaction ids, until they expire",
    "account_tasks": "of this very ending, until a moment later",
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
