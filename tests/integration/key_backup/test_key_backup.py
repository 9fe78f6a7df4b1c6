"""Server-side key backups: CHECKLIST E2E-14 to E2E-16."""

import asyncio
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
ROOM, OTHER_ROOM = "!room:example.org", "!other:example.org"


def key(index: int = 0, forwarded: int = 0, *, verified: bool = False, text: str = "x") -> dict[str, Any]:
    return {
        "first_message_index": index,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": {"ciphertext": text},
    }


async def new_version(user: User, **auth_data: Any) -> str:
    body = {"algorithm": ALGORITHM, "auth_data": auth_data}
    return str((await user.post("/room_keys/version", json=body))["version"])


async def put(user: User, version: str, session: str, value: dict[str, Any], **options: Any) -> Any:
    path = "/room_keys/keys/{}/{}"
    return await user.put(path, ROOM, session, params={"version": version}, json=value, **options)


async def get(user: User, version: str, session: str) -> Any:
    return await user.get("/room_keys/keys/{}/{}", ROOM, session, params={"version": version})


async def test_a_version_is_made_and_read_as_it_was_given(server: Server) -> None:
    """E2E-16: `auth_data` comes back unchanged, whatever numbers are in it."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await alice.get("/room_keys/version", expect=(404, "M_NOT_FOUND"))
    data = {"public_key": "abc", "signatures": {}, "number": 1.5, "deep": {"b": [1], "a": "\0"}}
    version = await new_version(alice, **data)
    for path in ("/room_keys/version", f"/room_keys/version/{version}"):
        found = await alice.get(path)
        assert (found["algorithm"], found["auth_data"]) == (ALGORITHM, data)
        assert (found["count"], found["version"]) == (0, version)
    await bob.get("/room_keys/version/{}", version, expect=(404, "M_NOT_FOUND"))


async def test_a_backup_of_an_algorithm_that_nobody_knows_yet_is_kept(server: Server) -> None:
    """E2E-14, E2E-16: what is in a backup is the client's."""
    alice = await server.register("alice")
    body = {"algorithm": "org.example.backup.v9", "auth_data": {"salt": [1]}}
    version = (await alice.post("/room_keys/version", json=body))["version"]
    await put(alice, version, "s", key(text="y"))
    assert await get(alice, version, "s") == key(text="y")
    found = await alice.get("/room_keys/version/{}", version)
    assert (found["algorithm"], found["auth_data"], found["count"]) == (body["algorithm"], {"salt": [1]}, 1)
    await alice.put("/room_keys/version/{}", version, json={**body, "auth_data": {}})


async def test_keys_are_written_to_the_newest_version_alone(server: Server) -> None:
    """E2E-14."""
    alice = await server.register("alice")
    await put(alice, "1", "s", key(), expect=(404, "M_NOT_FOUND"))
    old = await new_version(alice)
    await put(alice, old, "s", key())
    new = await new_version(alice)
    assert int(new) > int(old)
    answer = await put(alice, old, "s", key(), expect=(403, "M_WRONG_ROOM_KEYS_VERSION"))
    assert answer["current_version"] == new
    params = {"version": old}
    await alice.delete("/room_keys/keys", params=params, expect=(403, "M_WRONG_ROOM_KEYS_VERSION"))
    assert await get(alice, old, "s") == key()
    await alice.delete("/room_keys/version/{}", new)
    await put(alice, old, "s2", key())
    assert int(await new_version(alice)) > int(new)


async def test_the_etag_changes_with_the_keys_and_count_counts(server: Server) -> None:
    """E2E-14."""
    alice = await server.register("alice")
    version = await new_version(alice)
    first = await put(alice, version, "a", key(5))
    same = await put(alice, version, "a", key(5))
    worse = await put(alice, version, "a", key(9))
    assert first == same == worse
    assert first["count"] == 1
    better = await put(alice, version, "a", key(1))
    second = await put(alice, version, "b", key())
    assert len({answer["etag"] for answer in (first, better, second)}) == 3
    assert second["count"] == 2
    shown = await alice.get("/room_keys/version")
    assert (shown["etag"], shown["count"]) == (second["etag"], 2)
    path = ("/room_keys/keys/{}/{}", ROOM, "a")
    gone = await alice.delete(*path, params={"version": version})
    again = await alice.delete(*path, params={"version": version})
    assert gone["count"] == 1
    assert gone["etag"] != second["etag"]
    assert again == gone


@pytest.mark.parametrize(
    ("before", "after", "replaced"),
    [
        (key(0), key(9, verified=True), True),
        (key(9, verified=True), key(0), False),
        (key(5), key(4, 9), True),
        (key(5), key(6), False),
        (key(5, 2), key(5, 1), True),
        (key(5, 2), key(5, 3), False),
        (key(5, 2, text="x"), key(5, 2, text="y"), False),
    ],
)
async def test_of_two_keys_of_a_session_the_better_stays(
    server: Server, before: dict[str, Any], after: dict[str, Any], replaced: bool
) -> None:
    """E2E-15."""
    alice = await server.register("alice")
    version = await new_version(alice)
    await put(alice, version, "s", before)
    await put(alice, version, "s", after)
    assert await get(alice, version, "s") == (after if replaced else before)


async def test_keys_of_all_rooms_of_one_room_and_one_key(server: Server) -> None:
    """E2E-16: missing keys give empty objects; a missing backup or single key is not found."""
    alice = await server.register("alice")
    version = await new_version(alice)
    params = {"version": version}
    assert await alice.get("/room_keys/keys", params=params) == {"rooms": {}}
    assert await alice.get("/room_keys/keys/{}", ROOM, params=params) == {"sessions": {}}
    await alice.get("/room_keys/keys/{}/{}", ROOM, "s", params=params, expect=(404, "M_NOT_FOUND"))
    rooms = {ROOM: {"sessions": {"a": key(1), "b/+ é": key(2)}}, OTHER_ROOM: {"sessions": {"a": key(3)}}}
    assert (await alice.put("/room_keys/keys", params=params, json={"rooms": rooms}))["count"] == 3
    assert await alice.get("/room_keys/keys", params=params) == {"rooms": rooms}
    assert await alice.get("/room_keys/keys/{}", ROOM, params=params) == rooms[ROOM]
    assert await get(alice, version, "b/+ é") == key(2)
    body = {"sessions": {"c": key(4)}}
    assert (await alice.put("/room_keys/keys/{}", OTHER_ROOM, params=params, json=body))["count"] == 4
    assert (await alice.delete("/room_keys/keys/{}", OTHER_ROOM, params=params))["count"] == 2
    assert (await alice.delete("/room_keys/keys", params=params))["count"] == 0
    for unknown in ("99", "x", "", "-1", "1" * 30):
        await alice.get("/room_keys/keys", params={"version": unknown}, expect=(404, "M_NOT_FOUND"))


async def test_an_update_changes_auth_data_alone(server: Server) -> None:
    """E2E-16."""
    alice = await server.register("alice")
    version = await new_version(alice, a=1)
    path = ("/room_keys/version/{}", version)
    await alice.put(*path, json={"algorithm": ALGORITHM, "auth_data": {"a": 2}, "version": version})
    assert (await alice.get(*path))["auth_data"] == {"a": 2}
    refused = (400, "M_INVALID_PARAM")
    await alice.put(*path, json={"algorithm": "other", "auth_data": {}}, expect=refused)
    wrong = {"algorithm": ALGORITHM, "auth_data": {}, "version": "77"}
    await alice.put(*path, json=wrong, expect=refused)
    body = {"algorithm": ALGORITHM, "auth_data": {}}
    await alice.put("/room_keys/version/{}", "77", json=body, expect=(404, "M_NOT_FOUND"))
    assert (await alice.get(*path))["auth_data"] == {"a": 2}


async def test_a_version_can_be_deleted_twice(server: Server) -> None:
    """E2E-16."""
    alice = await server.register("alice")
    version = await new_version(alice)
    await put(alice, version, "s", key())
    for _ in range(2):
        await alice.delete("/room_keys/version/{}", version)
    await alice.get("/room_keys/version/{}", version, expect=(404, "M_NOT_FOUND"))
    await alice.get("/room_keys/keys", params={"version": version}, expect=(404, "M_NOT_FOUND"))
    await alice.delete("/room_keys/version/{}", "99", expect=(404, "M_NOT_FOUND"))


async def test_uploads_at_once_are_all_counted(server: Server) -> None:
    """E2E-14."""
    alice = await server.register("alice")
    version = await new_version(alice)
    answers = await asyncio.gather(*(put(alice, version, f"s{n}", key()) for n in range(20)))
    assert sorted(answer["count"] for answer in answers) == list(range(1, 21))
    assert len({answer["etag"] for answer in answers}) == 20


@pytest.mark.parametrize(
    "body",
    [
        {"rooms": []},
        {"rooms": {"no room": {"sessions": {}}}},
        {"rooms": {ROOM: {"sessions": {"": key()}}}},
        {"rooms": {ROOM: {"sessions": {"a\0b": key()}}}},
        {"rooms": {ROOM: {"sessions": {"s" * 300: key()}}}},
        {"rooms": {ROOM: {"sessions": {"s": {**key(), "first_message_index": -1}}}}},
        {"rooms": {ROOM: {"sessions": {"s": {**key(), "forwarded_count": "1"}}}}},
        {"rooms": {ROOM: {"sessions": {"s": {**key(), "is_verified": 1}}}}},
        {"rooms": {ROOM: {"sessions": {"s": {**key(), "session_data": "x"}}}}},
        {"rooms": {ROOM: {"sessions": {"s": {**key(), "first_message_index": 2**70}}}}},
        {"rooms": {ROOM: {"sessions": {"s": {}}}}},
        {},
    ],
)
async def test_malformed_keys_are_refused_whole(server: Server, body: dict[str, Any]) -> None:
    """E2E-14: nothing is stored."""
    alice = await server.register("alice")
    version = await new_version(alice)
    rooms = body.get("rooms")
    if isinstance(rooms, dict):
        rooms = {OTHER_ROOM: {"sessions": {"good": key()}}, **rooms}
        body = {"rooms": rooms}
    await alice.put("/room_keys/keys", params={"version": version}, json=body, expect=400)
    assert await alice.get("/room_keys/keys", params={"version": version}) == {"rooms": {}}


async def test_strange_names_are_no_fault_of_the_server(server: Server) -> None:
    """E2E-14, E2E-16: NUL can be no part of anything stored."""
    alice = await server.register("alice")
    version = await new_version(alice)
    refused, params = (400, "M_INVALID_PARAM"), {"version": version}
    for room, session in ((ROOM, "a\0b"), ("!a\0b:x", "s"), ("room", "s"), (ROOM, "s" * 300)):
        path = ("/room_keys/keys/{}/{}", room, session)
        await alice.get(*path, params=params, expect=refused)
        await alice.put(*path, params=params, json=key(), expect=refused)
        await alice.delete(*path, params=params, expect=refused)
    for algorithm in ("a\0b", "", "a" * 300):
        body = {"algorithm": algorithm, "auth_data": {}}
        await alice.post("/room_keys/version", json=body, expect=refused)


async def test_what_is_too_large_is_refused(server: Server) -> None:
    """E2E-14."""
    alice = await server.register("alice")
    version = await new_version(alice)
    await put(alice, version, "s", key(text="x" * 70_000), expect=(413, "M_TOO_LARGE"))
    body = {"algorithm": ALGORITHM, "auth_data": {"x": "x" * 70_000}}
    await alice.post("/room_keys/version", json=body, expect=(413, "M_TOO_LARGE"))
    many = {"rooms": {ROOM: {"sessions": {f"s{n}": key() for n in range(5_001)}}}}
    params = {"version": version}
    await alice.put("/room_keys/keys", params=params, json=many, expect=(400, "M_INVALID_PARAM"))
    del many["rooms"][ROOM]["sessions"]["s0"]
    assert (await alice.put("/room_keys/keys", params=params, json=many))["count"] == 5_000


@pytest.mark.parametrize(
    ("rooms", "sessions", "size"), [(3, 700, 10), (40, 30, 10), (2, 15, 60_000), (1, 500, 1)]
)
async def test_a_large_backup_is_read_whole(server: Server, rooms: int, sessions: int, size: int) -> None:
    """E2E-14: it is read some keys at a time, and a room may go on in the next ones."""
    alice = await server.register("alice")
    version = await new_version(alice)
    query = {"version": version}
    for path in ("/room_keys/keys", f"/room_keys/keys/{ROOM}"):
        empty = await alice.get(path, params=query)
        assert empty in ({"rooms": {}}, {"sessions": {}})
    kept = {
        f"!r{room}:example.org": {
            "sessions": {f"s{number}": key(text="x" * size) for number in range(sessions)}
        }
        for room in range(rooms)
    }
    for room, content in kept.items():
        await alice.put("/room_keys/keys/{}", room, params=query, json=content)
    assert (await alice.get("/room_keys/keys", params=query))["rooms"] == kept
    for room, content in list(kept.items())[:2]:
        assert await alice.get("/room_keys/keys/{}", room, params=query) == content
    await alice.get("/room_keys/keys", params={"version": "99"}, expect=(404, "M_NOT_FOUND"))
