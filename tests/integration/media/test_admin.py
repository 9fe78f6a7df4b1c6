"""What administrators do with files, under Synapse's paths; and what goes by itself."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homeserver.media.types import DELETE_BLOBS, Origin
from tests.conftest import StartServer
from tests.integration.media.conftest import DOWNLOAD, parts, upload
from tests.support.background import jobs_done
from tests.support.commands import atrium, configured
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

ADMIN = "/_synapse/admin/v1"
LATER = 10**14


@pytest.fixture
async def alone(start_server: StartServer) -> Server:
    return await start_server()


async def admin_of(server: Server) -> User:
    admin = await server.register("admin")
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute(
            "UPDATE accounts SET is_admin = true WHERE user_nid = (SELECT user_nid FROM users WHERE user_id = %(id)s)",
            id=admin.user_id,
        )
    return await admin.login()


def files_in(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder.rglob("*") if path.is_file()}


async def test_files_of_a_user(alone: Server) -> None:
    admin, alice = await admin_of(alone), await alone.register("alice")
    uris = [await upload(alice, b"x" * size, "text/plain", f"{size}.txt") for size in (30, 10, 20)]
    path = f"{ADMIN}/users/{{}}/media"
    await alice.get(path, alice.user_id, expect=(403, "M_FORBIDDEN"))
    told = await admin.get(path, alice.user_id, params={"order_by": "media_length", "dir": "f", "limit": 2})
    assert [each["media_length"] for each in told["media"]] == [10, 20]
    assert (told["total"], told["next_token"]) == (3, 2)
    assert set(told["media"][0]) == {
        "created_ts",
        "last_access_ts",
        "media_id",
        "media_length",
        "media_type",
        "quarantined_by",
        "safe_from_quarantine",
        "upload_name",
    }
    await admin.get(path, alice.user_id, params={"order_by": "x; DROP TABLE media"}, expect=400)
    await admin.get(path, "@nobody:localhost", expect=(404, "M_NOT_FOUND"))
    info = (await admin.get(f"{ADMIN}/media/{{}}/{{}}", *parts(uris[0])))["media_info"]
    assert info["sha256"] == hashlib.sha256(b"x" * 30).hexdigest()
    largest = await admin.get(f"{ADMIN}/statistics/users/media")
    assert largest["users"][0]["user_id"] == alice.user_id
    assert largest["users"][0]["media_count"] == 3
    gone = await admin.delete(
        path, alice.user_id, params={"order_by": "media_length", "dir": "f", "limit": 2}
    )
    assert gone["total"] == 2
    await alice.get(DOWNLOAD, *parts(uris[1]), expect=(404, "M_NOT_FOUND"))
    await alice.get(DOWNLOAD, *parts(uris[0]))


async def test_deleting_reaches_the_store_when_the_last_one_goes(
    start_server: StartServer, folder_of: Callable[[Server], Path]
) -> None:
    server = await start_server(media={"quota_per_user": 200_000})
    admin, alice = await admin_of(server), await server.register("alice")
    data = os.urandom(100_000)
    first, second = await upload(alice, data), await upload(alice, data)
    await upload(alice, data, expect=(403, "M_FORBIDDEN"))
    await admin.delete(f"{ADMIN}/media/{{}}/{{}}", *parts(first))
    assert await alice.get(DOWNLOAD, *parts(second)) == data
    third = await upload(alice, data)  # there is room for it again
    for uri in (second, third):
        assert (await admin.delete(f"{ADMIN}/media/{{}}/{{}}", *parts(uri)))["total"] == 1
    await admin.delete(f"{ADMIN}/media/{{}}/{{}}", *parts(third), expect=(404, "M_NOT_FOUND"))

    async def nothing_there() -> bool:
        return not files_in(folder_of(server))

    await until(nothing_there)
    await upload(alice, data)
    assert len(files_in(folder_of(server))) == 1


async def test_quarantine_is_a_state_of_the_row(alone: Server) -> None:
    admin, alice, bob = await admin_of(alone), await alone.register("alice"), await alone.register("bob")
    data = os.urandom(100)
    uri, same, other = await upload(alice, data), await upload(bob, data), await upload(alice, b"other")
    await admin.post(f"{ADMIN}/media/quarantine/{{}}/{{}}", *parts(uri))
    for each in (uri, same):
        await bob.get(DOWNLOAD, *parts(each), expect=(404, "M_NOT_FOUND"))
    await admin.post(f"{ADMIN}/media/unquarantine/{{}}/{{}}", *parts(uri))
    assert await bob.get(DOWNLOAD, *parts(same)) == data
    await admin.post(f"{ADMIN}/media/protect/{{}}", parts(other)[1])
    told = await admin.post(f"{ADMIN}/user/{{}}/media/quarantine", alice.user_id)
    assert told == {"num_quarantined": 1}
    assert await bob.get(DOWNLOAD, *parts(other)) == b"other"
    await admin.post(f"{ADMIN}/media/unprotect/{{}}", parts(other)[1])
    assert (await admin.post(f"{ADMIN}/user/{{}}/media/quarantine", alice.user_id))["num_quarantined"] == 1
    await admin.post(f"{ADMIN}/media/protect/{{}}", "missing", expect=(404, "M_NOT_FOUND"))


async def test_files_of_a_room(alone: Server) -> None:
    admin, alice = await admin_of(alone), await alone.register("alice")
    room = await alice.create_room()
    plain, thumb, secret = [await upload(alice, os.urandom(9)) for _ in range(3)]
    remote = "mxc://elsewhere.example/abc"
    contents: list[dict[str, Any]] = [
        {"msgtype": "m.image", "body": "x", "url": plain, "info": {"thumbnail_url": thumb}},
        {"msgtype": "m.file", "body": "x", "file": {"url": secret}},
        {"msgtype": "m.file", "body": "x", "url": remote},
        {"msgtype": "m.text", "body": "mxc://localhost/notthis"},
    ]
    for number, content in enumerate(contents):
        await alice.put("/rooms/{}/send/m.room.message/{}", room, f"t{number}", json=content)
    told = await admin.get(f"{ADMIN}/room/{{}}/media", room)
    assert sorted(told["local"]) == sorted([plain, thumb, secret])
    assert told["remote"] == [remote]
    assert (await admin.post(f"{ADMIN}/room/{{}}/media/quarantine", room))["num_quarantined"] == 3
    await alice.get(DOWNLOAD, *parts(secret), expect=(404, "M_NOT_FOUND"))
    await admin.get(f"{ADMIN}/room/{{}}/media", "!none:localhost", expect=(404, "M_NOT_FOUND"))


async def test_deleting_by_date_and_size_keeps_pictures_of_people(alone: Server) -> None:
    admin, alice = await admin_of(alone), await alone.register("alice")
    small, large, face = (
        await upload(alice, b"s"),
        await upload(alice, os.urandom(5000)),
        await upload(alice, os.urandom(6000)),
    )
    await alice.put("/profile/{}/avatar_url", alice.user_id, json={"avatar_url": face})
    path = f"{ADMIN}/media/delete"
    await admin.post(path, expect=(400, "M_MISSING_PARAM"))
    await admin.post(path, params={"before_ts": 1_700_000_000}, expect=(400, "M_INVALID_PARAM"))
    told = await admin.post(path, params={"before_ts": LATER, "size_gt": 1000})
    assert told == {"deleted_media": [parts(large)[1]], "total": 1}
    assert (await admin.post(path, params={"before_ts": LATER}))["deleted_media"] == [parts(small)[1]]
    told = await admin.post(path, params={"before_ts": LATER, "keep_profiles": False})
    assert told["deleted_media"] == [parts(face)[1]]
    assert await admin.post(f"{ADMIN}/purge_media_cache", params={"before_ts": LATER}) == {"deleted": 0}


async def test_what_is_held_stays(alone: Server) -> None:
    admin, alice = await admin_of(alone), await alone.register("alice")
    uri = await upload(alice, b"evidence")
    assert alone.app is not None
    service = alone.app.features.media.admin
    from homeserver.matrix import mxc

    await service.hold(mxc.parse(uri), held=True)
    assert (await admin.delete(f"{ADMIN}/media/{{}}/{{}}", *parts(uri)))["total"] == 0
    assert (await admin.post(f"{ADMIN}/media/delete", params={"before_ts": LATER}))["total"] == 0
    assert await alice.get(DOWNLOAD, *parts(uri)) == b"evidence"
    await service.hold(mxc.parse(uri), held=False)
    assert (await admin.delete(f"{ADMIN}/media/{{}}/{{}}", *parts(uri)))["total"] == 1


async def test_age_and_orphans(start_server: StartServer, folder_of: Callable[[Server], Path]) -> None:
    server = await start_server(media={"local_kept": 3600})
    assert server.app is not None
    alice = await server.register("alice")
    old, used, face = [await upload(alice, os.urandom(50)) for _ in range(3)]
    await alice.put("/profile/{}/avatar_url", alice.user_id, json={"avatar_url": face})
    expired = (await alice.post("/_matrix/media/v1/create"))["content_uri"]
    feature = server.app.features.media
    async with server.app.core.db.transaction() as tx:
        await tx.execute(
            "UPDATE media SET last_used_ms = last_used_ms - 86400000, expires_ms = expires_ms - 200000000"
        )
    await alice.get(DOWNLOAD, *parts(used))
    await feature.used.flush()
    now = server.app.clock.now_ms()
    assert await feature.upkeep.remove_unused(Origin.LOCAL, now - 3_600_000) == 1
    await alice.get(DOWNLOAD, *parts(old), expect=(404, "M_NOT_FOUND"))
    for uri in (used, face):
        await alice.get(DOWNLOAD, *parts(uri))
    assert await feature.upkeep.remove_expired() == 1
    await alice.get(DOWNLOAD, *parts(expired), expect=(404, "M_NOT_FOUND"))

    await jobs_done(server, DELETE_BLOBS.name)  # else they may find what was removed as an orphan
    folder = folder_of(server)
    for name in ("content/ab/cd/abcd.orphan", "incoming/left", "content/ab/cd/abcd.young"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
        if "young" not in name:
            os.utime(folder / name, (1, 1))
    for path in folder.rglob("*"):
        if path.is_file() and "young" not in path.name:
            os.utime(path, (1, 1))
    assert await feature.upkeep.reconcile() == 2
    assert (folder / "content/ab/cd/abcd.young").exists()
    for uri in (used, face):
        await alice.get(DOWNLOAD, *parts(uri))


async def test_a_store_that_is_mostly_unknown_is_left_alone(
    start_server: StartServer, folder_of: Callable[[Server], Path]
) -> None:
    """A fresh database before an old folder, say."""
    server = await start_server()
    assert server.app is not None
    folder = folder_of(server) / "content/ab/cd"
    folder.mkdir(parents=True)
    for number in range(120):
        (folder / f"abcd{number}.x").write_bytes(b"x")
        os.utime(folder / f"abcd{number}.x", (1, 1))
    upkeep = server.app.features.media.upkeep
    assert await upkeep.reconcile() == 0
    assert len(list(folder.iterdir())) == 120
    assert await upkeep.reconcile(even_most=True) == 120


async def test_commands(alone: Server, tmp_path: Path) -> None:
    alice = await alone.register("alice")
    uri = await upload(alice, b"x" * 5000)
    assert alone.app is not None
    config = configured(alone, tmp_path)

    async def media(*arguments: str, status: int = 0) -> str:
        return await atrium("media", *arguments, config=config, status=status)

    assert f"{alice.user_id}: 1 files, 0.0 MiB" in await media("usage")
    assert await media("hold", uri) == f"{uri} is held."
    assert await media("unhold", "mxc://localhost/missing", status=1) == "There is no such file"
    assert await media("unhold", "nonsense", status=1) == "URI: not an mxc:// URI"
    assert await media("reconcile") == "0 orphans removed."
