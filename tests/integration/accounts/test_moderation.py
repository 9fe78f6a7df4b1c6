"""Locking, suspending, whois, and who may do what at all: CHECKLIST ACC-01 to ACC-05, CAP-05, GUEST-01."""

from typing import Any

import pytest

from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.user import User

LOCK, SUSPEND = "/_matrix/client/v1/admin/lock/{}", "/_matrix/client/v1/admin/suspend/{}"


async def flag(server: IdentityServer, user: User, **flags: bool) -> None:
    account = await server.parts.accounts.find(user.user_id)
    assert account is not None
    await server.parts.accounts.set_flags(account.user_nid, **flags)


async def admin_of(server: IdentityServer, name: str = "admin") -> User:
    admin = await server.register(name)
    await flag(server, admin, is_admin=True)
    return admin


# -------------------------------------------------------------------------------------------------------- lock, suspend


async def test_an_administrator_locks_somebody_out_and_in_again(server: IdentityServer) -> None:
    """ACC-01, ACC-04: sessions survive."""
    admin, alice = await admin_of(server), await server.register("alice")
    assert await admin.get(LOCK, alice.user_id) == {"locked": False}
    assert await admin.put(LOCK, alice.user_id, json={"locked": True}) == {"locked": True}
    assert await admin.get(LOCK, alice.user_id) == {"locked": True}
    for path in ("/account/whoami", "/devices", "/capabilities"):
        refusal = await alice.get(path, expect=(401, "M_USER_LOCKED"))
        assert refusal["soft_logout"] is True
    refusal = await server.login(alice.user_id, expect=(401, "M_USER_LOCKED"))
    await admin.put(LOCK, alice.user_id, json={"locked": False})
    await alice.get("/account/whoami")
    await server.login(alice.user_id)


@pytest.mark.parametrize("path", ["/logout", "/logout/all"])
async def test_a_locked_user_may_log_out(server: IdentityServer, path: str) -> None:
    """ACC-01."""
    alice = await server.register("alice")
    await flag(server, alice, locked=True)
    await alice.post(path)
    await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))


async def test_tools_for_synapse_suspend_somebody(server: IdentityServer) -> None:
    """ACC-04: in the words of Synapse's admin API."""
    path = "/_synapse/admin/v1/suspend/{}"
    admin, alice = await admin_of(server), await server.register("alice")
    for suspend in (True, False):
        answer = await admin.put(path, alice.user_id, json={"suspend": suspend})
        assert answer == {f"user_{alice.user_id}_suspended": suspend}
        assert await admin.get(SUSPEND, alice.user_id) == {"suspended": suspend}
    await alice.put(path, admin.user_id, json={"suspend": True}, expect=(403, "M_FORBIDDEN"))
    await admin.put(path, admin.user_id, json={"suspend": True}, expect=(403, "M_FORBIDDEN"))
    await admin.put(path, alice.user_id, json={"suspend": "yes"}, expect=400)
    await admin.put(path, alice.user_id, json={}, expect=(400, "M_MISSING_PARAM"))
    await admin.put(path, "@nobody:localhost", json={"suspend": True}, expect=(404, "M_NOT_FOUND"))
    await admin.put(path, "@a:elsewhere", json={"suspend": True}, expect=(400, "M_INVALID_PARAM"))
    await server.client.put(path, alice.user_id, json={"suspend": True}, expect=(401, "M_MISSING_TOKEN"))


async def test_an_administrator_suspends_somebody(server: IdentityServer) -> None:
    """ACC-02, ACC-03, ACC-04."""
    admin, alice = await admin_of(server), await server.register("alice")
    assert await admin.put(SUSPEND, alice.user_id, json={"suspended": True}) == {"suspended": True}
    assert await admin.get(SUSPEND, alice.user_id) == {"suspended": True}
    body = {"displayname": "A"}
    await alice.put("/profile/{}/displayname", alice.user_id, json=body, expect=(403, "M_USER_SUSPENDED"))
    await alice.delete("/profile/{}/displayname", alice.user_id, expect=(403, "M_USER_SUSPENDED"))
    phone = await alice.login()
    for path in ("/account/whoami", "/devices", "/capabilities"):
        await phone.get(path)
    auth = {"type": "m.login.password", "user": alice.user_id, "password": PASSWORD}
    await alice.delete("/devices/{}", phone.device_id, json={"auth": auth})
    await alice.post("/account/deactivate", json={"auth": auth})


@pytest.mark.parametrize(("path", "key"), [(LOCK, "locked"), (SUSPEND, "suspended")])
async def test_whom_an_administrator_may_moderate(server: IdentityServer, path: str, key: str) -> None:
    """ACC-04."""
    admin, other, alice = (
        await admin_of(server),
        await admin_of(server, "other"),
        await server.register("alice"),
    )
    body = {key: True}
    for who, expect in (
        (admin.user_id, (403, "M_FORBIDDEN")),
        (other.user_id, (403, "M_FORBIDDEN")),
        ("@alice:elsewhere.example", (400, "M_INVALID_PARAM")),
        ("alice", (400, "M_INVALID_PARAM")),
        ("@nobody.at.all:localhost", (404, "M_NOT_FOUND")),
    ):
        await admin.put(path, who, json=body, expect=expect)
    assert await admin.get(path, admin.user_id) == {key: False}
    await admin.get(path, other.user_id, expect=(403, "M_FORBIDDEN"))
    for malformed, errcode in (({}, "M_MISSING_PARAM"), ({key: "yes"}, "M_BAD_JSON")):
        await admin.put(path, alice.user_id, json=malformed, expect=(400, errcode))
    auth = {"type": "m.login.password", "user": alice.user_id, "password": PASSWORD}
    await alice.post("/account/deactivate", json={"auth": auth})
    await admin.put(path, alice.user_id, json=body, expect=(404, "M_NOT_FOUND"))


@pytest.mark.parametrize("path", [LOCK, SUSPEND])
async def test_others_do_not_even_learn_who_exists(server: IdentityServer, path: str) -> None:
    """ACC-04: authorised before the look-up."""
    alice = await server.register("alice")
    for who in (alice.user_id, "@nobody.at.all:localhost", "@a:elsewhere.example"):
        await alice.get(path, who, expect=(403, "M_FORBIDDEN"))
        await alice.put(path, who, json={"locked": True, "suspended": True}, expect=(403, "M_FORBIDDEN"))


async def test_only_who_may_moderate_is_told_so(server: IdentityServer) -> None:
    """CAP-05."""
    admin, alice = await admin_of(server), await server.register("alice")
    assert (await admin.get("/capabilities"))["capabilities"]["m.account_moderation"] == {
        "lock": True,
        "suspend": True,
    }
    assert "m.account_moderation" not in (await alice.get("/capabilities"))["capabilities"]


# --------------------------------------------------------------------------------------------------------------- whois


async def test_whois_is_for_oneself_and_administrators(server: IdentityServer) -> None:
    """ACC-05."""
    admin, alice, bob = await admin_of(server), await server.register("alice"), await server.register("bob")
    await alice.get("/account/whoami", headers={"User-Agent": "Tester/1.0"})
    for asking in (alice, admin):
        answer = await asking.get("/admin/whois/{}", alice.user_id)
        assert answer["user_id"] == alice.user_id
        connection = answer["devices"][alice.device_id]["sessions"][0]["connections"][0]
        assert connection["ip"] == "127.0.0.1"
        assert connection["last_seen"] > 0
    await bob.get("/admin/whois/{}", alice.user_id, expect=(403, "M_FORBIDDEN"))
    await bob.get("/admin/whois/{}", "@nobody:localhost", expect=(403, "M_FORBIDDEN"))
    await admin.get("/admin/whois/{}", "@nobody.at.all:localhost", expect=(404, "M_NOT_FOUND"))
    await admin.get("/admin/whois/{}", "@a:elsewhere.example", expect=(400, "M_INVALID_PARAM"))


# -------------------------------------------------------------------------------------------------- who may do what

PEOPLE = ("anonymous", "user", "other", "guest", "admin", "locked", "suspended", "ended")

ANSWERS: dict[str, Any] = {
    "ok": 200,
    "asked": 401,  # to prove who they are
    "MISSING": (401, "M_MISSING_TOKEN"),
    "UNKNOWN": (401, "M_UNKNOWN_TOKEN"),
    "GUEST": (403, "M_GUEST_ACCESS_FORBIDDEN"),
    "LOCKED": (401, "M_USER_LOCKED"),
    "SUSPENDED": (403, "M_USER_SUSPENDED"),
    "FORBIDDEN": (403, "M_FORBIDDEN"),
}

# What each of PEOPLE is answered. "other" and "admin" ask about somebody else, everybody else about themselves.
ACTS = """
GET    /account/whoami                     MISSING ok        ok        ok        ok        LOCKED ok        UNKNOWN
GET    /capabilities                       MISSING ok        ok        ok        ok        LOCKED ok        UNKNOWN
GET    /devices                            MISSING ok        ok        ok        ok        LOCKED ok        UNKNOWN
GET    /profile/{}                         ok      ok        ok        ok        ok        ok     ok        ok
PUT    /profile/{}/displayname             MISSING ok        FORBIDDEN ok        FORBIDDEN LOCKED SUSPENDED UNKNOWN
PUT    /profile/{}/m.tz                    MISSING ok        FORBIDDEN GUEST     FORBIDDEN LOCKED SUSPENDED UNKNOWN
DELETE /profile/{}/m.tz                    MISSING ok        FORBIDDEN GUEST     FORBIDDEN LOCKED SUSPENDED UNKNOWN
POST   /user/{}/openid/request_token       MISSING ok        FORBIDDEN GUEST     FORBIDDEN LOCKED ok        UNKNOWN
POST   /account/password                   MISSING asked     asked     FORBIDDEN asked     LOCKED asked     UNKNOWN
POST   /account/deactivate                 MISSING asked     asked     FORBIDDEN asked     LOCKED asked     UNKNOWN
POST   /delete_devices                     MISSING asked     asked     GUEST     asked     LOCKED asked     UNKNOWN
POST   /_matrix/client/v1/login/get_token  MISSING asked     asked     GUEST     asked     LOCKED SUSPENDED UNKNOWN
GET    /admin/whois/{}                     MISSING ok        FORBIDDEN GUEST     ok        LOCKED ok        UNKNOWN
GET    /_matrix/client/v1/admin/lock/{}    MISSING FORBIDDEN FORBIDDEN GUEST     ok        LOCKED FORBIDDEN UNKNOWN
PUT    /_matrix/client/v1/admin/lock/{}    MISSING FORBIDDEN FORBIDDEN GUEST     ok        LOCKED SUSPENDED UNKNOWN
GET    /_matrix/client/v1/admin/suspend/{} MISSING FORBIDDEN FORBIDDEN GUEST     ok        LOCKED FORBIDDEN UNKNOWN
PUT    /_matrix/client/v1/admin/suspend/{} MISSING FORBIDDEN FORBIDDEN GUEST     ok        LOCKED SUSPENDED UNKNOWN
POST   /logout                             MISSING ok        ok        ok        ok        ok     ok        UNKNOWN
"""

# One body that is right for all of them: what an act does not know it passes over.
BODY = {
    "displayname": "x",
    "m.tz": "UTC",
    "new_password": "a long one",
    "devices": ["X"],
    "locked": False,
    "suspended": False,
}


async def person(server: IdentityServer, who: str) -> User | None:
    if who == "anonymous":
        return None
    if who == "guest":
        return server.user(await server.client.post("/register", json={}, params={"kind": "guest"}))
    somebody = await server.register(who)
    if who in ("locked", "suspended"):
        await flag(server, somebody, **{who: True})
    elif who == "admin":
        await flag(server, somebody, is_admin=True)
    elif who == "ended":
        account = await server.parts.accounts.find(somebody.user_id)
        assert account is not None
        await server.parts.ending.deactivate(account.user_nid, somebody.user_id, erase=False)
    return somebody


@pytest.mark.parametrize("act", ACTS.strip().splitlines(), ids=lambda act: " ".join(act.split()[:2]))
@pytest.mark.parametrize("who", PEOPLE)
async def test_who_may_do_what(server: IdentityServer, act: str, who: str) -> None:
    """ACC-01 to ACC-05, GUEST-01, API-14."""
    method, path, *answers = act.split()
    asking = await person(server, who)
    about = asking if asking and who not in ("other", "admin", "ended") else await server.register("about")
    await server.client.request(
        method,
        path,
        *([about.user_id] if "{}" in path else []),
        json=None if method in ("GET", "DELETE") else BODY,
        token=asking.token if asking else None,
        expect=ANSWERS[answers[PEOPLE.index(who)]],
    )
