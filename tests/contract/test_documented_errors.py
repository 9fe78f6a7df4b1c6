"""Each error that an operation of clients documents is reached: here, in a test that is named, or it is said why it never comes.

The specification's own data say which there are: operation, status (4xx and 5xx), and the error codes of its examples. 429 is the
same for all operations (CHECKLIST API-08). CHECKLIST API-03
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import pytest

from tests.support import spec_files
from tests.support.server import Server
from tests.support.spec import Operation, load
from tests.support.user import User

FOLDER = Path(__file__).parent.parent
V1, MEDIA = "/_matrix/client/v1", "/_matrix/media/v3"
LARGE = "x" * 256
NEVER: Final[dict[str, str]] = {
    "pingAppservice 502 M_UNKNOWN_TOKEN": "stands in the example of what the service said, which is told with M_BAD_STATUS",
    "post3PIDs 403 M_THREEPID_AUTH_FAILED": "addresses that were proved elsewhere are refused before that",
    "* 400 M_SERVER_NOT_TRUSTED": "mails are sent by this server itself, id_server is not looked at",
    "*MSISDN 400 M_THREEPID_IN_USE": "this server sends no text messages",
    "*MSISDN 400 M_THREEPID_NOT_FOUND": "this server sends no text messages",
    "*MSISDN 400 M_INVALID_PARAM": "this server sends no text messages",
    "*MSISDN 403 M_THREEPID_DENIED": "this server sends no text messages",
    "* 400 M_APPSERVICE_LOGIN_UNSUPPORTED": "the legacy API is always there; CHECKLIST AUTH-35",
    "getAuthMetadata 404 M_UNRECOGNIZED": "stands in not_served.txt",
    "redirectToIdP 404 -": "stands in not_served.txt",
    "getLoginFlows 404 M_UNRECOGNIZED": "the legacy API is always there; CHECKLIST AUTH-35",
    "deleteProfileField 400 M_BAD_JSON": "nothing is read of the body of a DELETE",
    "inviteUser 400 M_UNSUPPORTED_ROOM_VERSION": "what the invited user's server says is passed on: M_INCOMPATIBLE_ROOM_VERSION",
    "createContent 403 M_FORBIDDEN": "whoever may log in may upload; guests are told M_GUEST_ACCESS_FORBIDDEN",
    "initialSync 404 -": "whoever has a token is a user of this server",
    "getProfileField 403 M_FORBIDDEN": "profiles are shown to whoever asks",
    "getUserProfile 403 M_FORBIDDEN": "profiles are shown to whoever asks",
    "reportRoom 404 M_NOT_FOUND": "nobody learns which rooms there are; CHECKLIST MOD-01",
    "reportUser 404 M_NOT_FOUND": "nobody learns which users there are; CHECKLIST MOD-01",
}
"""Operation, status and code -> why. `*` stands for any part of the operation's name."""
ELSEWHERE: Final[dict[str, str]] = {
    "setAdmin* 4* *": "integration/accounts/test_moderation.py",
    "getAdmin* 4* *": "integration/accounts/test_moderation.py",
    "requestTokenTo*Email 4* *": "integration/threepids/test_email.py",
    "pingAppservice 400 M_URL_NOT_SET": "integration/appservices/test_asking.py",
    "pingAppservice 403 M_FORBIDDEN": "integration/appservices/test_asking.py",
    "pingAppservice 50* *": "integration/appservices/test_asking.py",
    "getContent* 502 M_TOO_LARGE": "integration/media/test_upload_download.py",
    "getContent* 504 M_NOT_YET_UPLOADED": "integration/media/test_upload_download.py",
    "getWellknown 404 -": "integration/discovery/test_discovery.py",
    "getWellknownSupport 404 -": "integration/discovery/test_discovery.py",
    "uploadCrossSigningKeys 40* *": "integration/e2ee/test_cross_signing.py",
    "uploadContentToMXC 409 M_CANNOT_OVERWRITE_MEDIA": "integration/media/test_upload_download.py",
    "login 403 M_USER_DEACTIVATED": "integration/accounts/test_account.py",
    "getPresence 404 -": "integration/ephemeral/test_presence.py",
    "getTokenOwner 403 M_FORBIDDEN": "integration/devices/test_appservices.py",
    "generateLoginToken 40* -": "integration/sessions/test_login_tokens.py",
    "getContentThumbnail* 413 M_TOO_LARGE": "integration/media/test_thumbnails.py",
    "uploadContent* 403 M_FORBIDDEN": "integration/media/test_scanning.py",
    "uploadContent* 413 M_TOO_LARGE": "integration/media/test_upload_download.py",
    "register 403 M_FORBIDDEN": "integration/accounts/test_registration.py",
    "registrationTokenValidity 403 M_FORBIDDEN": "integration/uia/test_uia.py",
    "inviteBy3PID 403 *": "integration/threepids/test_identity_servers.py",
    "register 400 M_EXCLUSIVE": "integration/devices/test_appservices.py",
    "checkUsernameAvailability 400 M_EXCLUSIVE": "integration/devices/test_appservices.py",
    "sendMessage 400 M_DUPLICATE_ANNOTATION": "integration/relations/test_pages.py",
    "setProfileField 400 M_PROFILE_TOO_LARGE": "integration/profiles/test_profiles.py",
}
"""Likewise -> the file whose test reaches it; it has the code in it."""


class Case(NamedTuple):
    """Who asks for what."""

    who: str
    path: str
    args: tuple[str, ...]
    options: dict[str, Any]


def documented() -> Iterator[tuple[str, Operation]]:
    """`operation status code`; `-` where no code is documented, or any will do."""
    spec = load()
    assert spec is not None
    for operation in spec.operations:
        if not operation.path.startswith(("/_matrix/client", "/_matrix/media", "/.well-known/matrix")):
            continue
        for status, response in operation.responses.items():
            if not status.startswith(("4", "5")) or status == "429":
                continue
            codes = set(re.findall(r"M_[A-Z_]+", dumps(response))) - {"M_UNKNOWN"}
            for code in sorted(codes) or ["-"]:
                yield f"{operation.operation_id} {status} {code}", operation


class Add(Protocol):
    """Adds a case."""

    def __call__(self, key: str, who: str, path: str, *args: str, **options: Any) -> None: ...


World = dict[str, str]
"""Names of what there is -> ids."""
TEXT: Final[dict[str, Any]] = {"data": b"x"}
NONE: Final[dict[str, Any]] = {"json": {}}


def _account_data(add: Add, w: World) -> None:
    """What accounts and rooms keep for a user."""
    alice, room = w["alice"], w["room"]
    data, room_data = "/user/{}/account_data/{}", "/user/{}/rooms/{}/account_data/{}"
    for name, path, args in (
        ("AccountData", data, (alice,)),
        ("AccountDataPerRoom", room_data, (alice, room)),
    ):
        kind = "m.push_rules" if path is data else "m.fully_read"
        add(f"set{name} 400 M_BAD_JSON", "alice", path, *args, "a.b", json=[])
        add(f"set{name} 400 M_NOT_JSON", "alice", path, *args, "a.b", **TEXT)
        add(f"set{name} 403 M_FORBIDDEN", "bob", path, *args, "a.b", **NONE)
        add(f"set{name} 405 M_BAD_JSON", "alice", path, *args, kind, **NONE)
        add(f"get{name} 403 M_FORBIDDEN", "bob", path, *args, "a.b")
        add(f"get{name} 404 M_NOT_FOUND", "alice", path, *args, "org.example.none")
    add("setAccountDataPerRoom 400 M_INVALID_PARAM", "alice", room_data, alice, "nonsense", "a.b", **NONE)
    add("getAccountDataPerRoom 400 M_INVALID_PARAM", "alice", room_data, alice, "nonsense", "a.b")


def _accounts(add: Add, w: World) -> None:
    """Registering, logging in, devices, addresses."""
    alice = w["alice"]
    for name, path, body in (
        ("deactivateAccount", "/account/deactivate", {}),
        ("add3PID", "/account/3pid/add", {"sid": "x", "client_secret": "y"}),
        ("deleteDevices", "/delete_devices", {"devices": [w["device"]]}),
        ("changePassword", "/account/password", {"new_password": "another word of mine"}),
    ):
        add(f"{name} 401 -", "alice", path, json=body)
    add("deleteDevice 401 -", "alice", "/devices/{}", w["device"], **NONE)
    add("updateDevice 404 -", "alice", "/devices/{}", "NOTHING", **NONE)
    add("getDevice 404 -", "alice", "/devices/{}", "NOTHING")
    add("register 401 -", "", "/register", json={"password": "a long word of mine"})
    add(
        "register 400 M_INVALID_USERNAME",
        "",
        "/register",
        json={"username": "a b", "password": "a long word"},
    )
    add(
        "register 400 M_USER_IN_USE", "", "/register", json={"username": w["localpart"], "password": "a word"}
    )
    add(
        "checkUsernameAvailability 400 M_INVALID_USERNAME",
        "",
        "/register/available",
        params={"username": "a b"},
    )
    add(
        "checkUsernameAvailability 400 M_USER_IN_USE",
        "",
        "/register/available",
        params={"username": w["localpart"]},
    )
    wrong = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice},
        "password": "wrong",
    }
    add("login 403 M_FORBIDDEN", "", "/login", json=wrong)
    add("refresh 401 M_UNKNOWN_TOKEN", "", "/refresh", json={"refresh_token": "nonsense"})
    add("getTokenOwner 401 M_UNKNOWN_TOKEN", "", "/account/whoami", token="nonsense")  # none
    body = {"client_secret": "x", "country": "GB", "phone_number": "0", "send_attempt": 1}
    path = "/account/3pid/msisdn/requestToken"
    add("requestTokenTo3PIDMSISDN 400 M_THREEPID_MEDIUM_NOT_SUPPORTED", "", path, json=body)


def _membership(add: Add, w: World) -> None:
    """Who is in a room; making and replacing rooms."""
    alice, room = w["alice"], w["room"]
    for name in ("ban", "kick", "unban"):
        add(f"{name} 403 M_FORBIDDEN", "bob", "/rooms/{}/" + name, room, json={"user_id": alice})
    add("inviteUser 400 M_BAD_JSON", "alice", "/rooms/{}/invite", room, json={"user_id": 5})
    add("inviteUser 400 M_NOT_JSON", "alice", "/rooms/{}/invite", room, **TEXT)
    add("inviteUser 403 M_FORBIDDEN", "carol", "/rooms/{}/invite", room, json={"user_id": w["bob"]})
    add("inviteUser 403 M_INVITE_BLOCKED", "alice", "/rooms/{}/invite", room, json={"user_id": w["recluse"]})
    add("joinRoomById 403 M_FORBIDDEN", "carol", "/rooms/{}/join", room, **NONE)
    add("joinRoom 403 M_FORBIDDEN", "carol", "/join/{}", room, **NONE)
    add("knockRoom 403 M_FORBIDDEN", "carol", "/knock/{}", room, **NONE)
    add("knockRoom 404 M_NOT_FOUND", "carol", "/knock/{}", "#nothing:localhost", **NONE)
    add("forgetRoom 400 -", "bob", "/rooms/{}/forget", room, **NONE)
    add(
        "upgradeRoom 400 M_UNSUPPORTED_ROOM_VERSION",
        "alice",
        "/rooms/{}/upgrade",
        room,
        json={"new_version": "99"},
    )
    add("upgradeRoom 403 M_FORBIDDEN", "bob", "/rooms/{}/upgrade", room, json={"new_version": "11"})
    create = "/createRoom"
    add("createRoom 400 M_BAD_JSON", "alice", create, json={"name": 5})
    add("createRoom 400 M_NOT_JSON", "alice", create, **TEXT)
    add("createRoom 400 M_ROOM_IN_USE", "alice", create, json={"room_alias_name": w["alias_name"]})
    add("createRoom 400 M_UNSUPPORTED_ROOM_VERSION", "alice", create, json={"room_version": "99"})
    add(
        "createRoom 400 M_INVALID_ROOM_STATE",
        "alice",
        create,
        json={"room_version": "12", "power_level_content_override": {"users": {alice: 100}}},
    )
    add("createRoom 403 M_INVITE_BLOCKED", "alice", create, json={"invite": [w["recluse"]]})


def _directory(add: Add, w: World) -> None:
    """Aliases and the room directory; what is well known."""
    room = w["room"]
    add("getWellknownPolicy 404 -", "", "/.well-known/matrix/policy_server")
    add("setRoomAlias 400 M_INVALID_PARAM", "alice", "/directory/room/{}", "nonsense", json={"room_id": room})
    add("setRoomAlias 409 -", "alice", "/directory/room/{}", w["alias"], json={"room_id": room})
    add("getRoomIdByAlias 400 M_INVALID_PARAM", "alice", "/directory/room/{}", "nonsense")
    add("getRoomIdByAlias 404 M_NOT_FOUND", "alice", "/directory/room/{}", "#nothing:localhost")
    add("deleteRoomAlias 404 M_NOT_FOUND", "alice", "/directory/room/{}", "#nothing:localhost")
    add("getLocalAliases 400 M_INVALID_PARAM", "alice", "/rooms/{}/aliases", "nonsense")
    add("getLocalAliases 403 M_FORBIDDEN", "carol", "/rooms/{}/aliases", room)
    visibility = "/directory/list/room/{}"
    add(
        "setRoomVisibilityOnDirectory 404 M_NOT_FOUND",
        "alice",
        visibility,
        "!nothing:localhost",
        json={"visibility": "public"},
    )
    add("getRoomVisibilityOnDirectory 404 M_NOT_FOUND", "alice", visibility, "!nothing:localhost")
    add("getRoomSummary 404 M_NOT_FOUND", "alice", V1 + "/room_summary/{}", "#nothing:localhost")


def _backups(add: Add, w: World) -> None:
    """Key backups."""
    room = w["room"]
    version, keys = "/room_keys/version/{}", {"params": {"version": w["old_backup"]}}
    other = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {}, "version": "999"}
    unknown, backup = {"params": {"version": "999"}}, {"first_message_index": 0, "forwarded_count": 0}
    session = {**backup, "is_verified": False, "session_data": {}}
    add("getRoomKeysVersionCurrent 404 M_NOT_FOUND", "carol", "/room_keys/version")
    add("putRoomKeysVersion 400 M_INVALID_PARAM", "alice", version, w["backup"], json=other)
    add("putRoomKeysVersion 404 M_NOT_FOUND", "alice", version, "999", json=other)
    add("getRoomKeysVersion 404 M_NOT_FOUND", "alice", version, "999")
    add("deleteRoomKeysVersion 404 M_NOT_FOUND", "alice", version, "999")
    for name, path, args, body in (
        ("KeyBySessionId", "/room_keys/keys/{}/{}", (room, "s"), session),
        ("KeysByRoomId", "/room_keys/keys/{}", (room,), {"sessions": {"s": session}}),
        ("Keys", "/room_keys/keys", (), {"rooms": {room: {"sessions": {"s": session}}}}),
    ):
        add(f"putRoom{name} 403 M_WRONG_ROOM_KEYS_VERSION", "alice", path, *args, json=body, **keys)
        if name != "KeyBySessionId":
            add(f"putRoom{name} 404 M_NOT_FOUND", "carol", path, *args, json=body, **unknown)
        add(f"getRoom{name} 404 M_NOT_FOUND", "alice", path, *args, **unknown)
        add(f"deleteRoom{name} 404 M_NOT_FOUND", "carol", path, *args, **unknown)


def _reading(add: Add, w: World) -> None:
    """Reading rooms, and writing into them."""
    alice, room = w["alice"], w["room"]
    add("getFilter 404 -", "alice", "/user/{}/filter/{}", alice, "999")
    add("getRoomEvents 403 -", "carol", "/rooms/{}/messages", room, params={"dir": "b"})
    add("getMutualRooms 400 M_INVALID_PARAM", "alice", V1 + "/mutual_rooms", params={"user_id": alice})
    add("getEvents 400 -", "alice", "/events", params={"from": "nonsense"})
    add("peekEvents 400 -", "alice", "/events", params={"from": "nonsense", "room_id": room})
    add("getOneEvent 404 -", "alice", "/events/{}", "$nothing")
    add("getOneRoomEvent 404 M_NOT_FOUND", "alice", "/rooms/{}/event/{}", room, "$nothing")
    add("roomInitialSync 403 -", "carol", "/rooms/{}/initialSync", room)
    add("getRoomState 403 -", "carol", "/rooms/{}/state", room)
    add("getRoomStateWithKey 403 -", "carol", "/rooms/{}/state/{}/{}", room, "m.room.name", "")
    add("getRoomStateWithKey 404 -", "alice", "/rooms/{}/state/{}/{}", room, "m.nothing", "")
    add("getMembersByRoom 403 -", "carol", "/rooms/{}/members", room)
    add("getJoinedMembersByRoom 403 -", "carol", "/rooms/{}/joined_members", room)
    state = "/rooms/{}/state/{}/{}"
    alias = {"alias": "#nothing:localhost"}
    add("setRoomStateWithKey 400 M_BAD_ALIAS", "alice", state, room, "m.room.canonical_alias", "", json=alias)
    odd = {"alias": "nonsense"}
    add(
        "setRoomStateWithKey 400 M_INVALID_PARAM",
        "alice",
        state,
        room,
        "m.room.canonical_alias",
        "",
        json=odd,
    )
    add("setRoomStateWithKey 403 M_FORBIDDEN", "bob", state, room, "m.room.name", "", json={"name": "x"})
    invite = {"membership": "invite"}
    add(
        "setRoomStateWithKey 403 M_INVITE_BLOCKED",
        "alice",
        state,
        room,
        "m.room.member",
        w["recluse"],
        json=invite,
    )
    relations = V1 + "/rooms/{}/relations/{}"
    for name, path, args in (
        ("", relations, ()),
        ("WithRelType", relations + "/{}", ("m.thread",)),
        ("WithRelTypeAndEventType", relations + "/{}/{}", ("m.thread", "m.room.message")),
    ):
        add(f"getRelatingEvents{name} 404 M_NOT_FOUND", "alice", path, room, "$nothing", *args)
    add(
        "getThreadRoots 400 M_INVALID_PARAM",
        "alice",
        V1 + "/rooms/{}/threads",
        room,
        params={"from": "nonsense"},
    )
    add("getThreadRoots 403 M_FORBIDDEN", "carol", V1 + "/rooms/{}/threads", room)
    moment = {"ts": 2**53 - 1, "dir": "f"}
    add(
        "getEventByTimestamp 404 M_NOT_FOUND",
        "alice",
        V1 + "/rooms/{}/timestamp_to_event",
        room,
        params=moment,
    )
    hierarchy = V1 + "/rooms/{}/hierarchy"
    add("getSpaceHierarchy 400 M_INVALID_PARAM", "alice", hierarchy, room, params={"from": "nonsense"})
    add("getSpaceHierarchy 403 M_FORBIDDEN", "carol", hierarchy, room)
    add("search 400 -", "alice", "/search", json={"search_categories": {"room_events": {"search_term": 5}}})
    add("reportEvent 404 M_NOT_FOUND", "carol", "/rooms/{}/report/{}", room, w["event"], **NONE)
    add(
        "postReceipt 400 M_INVALID_PARAM",
        "alice",
        "/rooms/{}/receipt/{}/{}",
        room,
        "m.nothing",
        w["event"],
        **NONE,
    )


def _people(add: Add, w: World) -> None:
    """Profiles, presence, notifications, files, other networks."""
    alice = w["alice"]
    add("getPresence 403 M_FORBIDDEN", "carol", "/presence/{}/status", alice)
    field = "/profile/{}/{}"
    add("setProfileField 400 M_BAD_JSON", "alice", field, alice, "displayname", json=[])
    add("setProfileField 400 M_INVALID_PARAM", "alice", field, alice, "No Key", json={"No Key": 1})
    add("setProfileField 400 M_KEY_TOO_LARGE", "alice", field, alice, LARGE, json={LARGE: 1})
    add("setProfileField 400 M_MISSING_PARAM", "alice", field, alice, "displayname", **NONE)
    add("setProfileField 403 M_FORBIDDEN", "bob", field, alice, "displayname", json={"displayname": "x"})
    add("getProfileField 404 -", "alice", field, alice, "org.example.none")
    add("deleteProfileField 400 M_INVALID_PARAM", "alice", field, alice, "No Key")
    add("deleteProfileField 403 M_FORBIDDEN", "bob", field, alice, "displayname")
    add("getUserProfile 404 M_NOT_FOUND", "alice", "/profile/{}", "@nothing:localhost")
    add("postPusher 400 M_MISSING_PARAM", "alice", "/pushers/set", json={"kind": "http"})
    rule, content = "/pushrules/global/{}/{}", {"actions": ["notify"], "pattern": "x"}
    add("setPushRule 400 -", "alice", rule, "content", ".mine", json=content)
    after = {"params": {"after": "nothing"}}
    add("setPushRule 404 M_NOT_FOUND", "alice", rule, "content", "mine", json=content, **after)
    add("getPushRule 404 M_NOT_FOUND", "alice", rule, "content", "nothing")
    add("deletePushRule 404 M_NOT_FOUND", "alice", rule, "content", "nothing")
    add("isPushRuleEnabled 404 M_NOT_FOUND", "alice", rule + "/enabled", "content", "nothing")
    add("getPushRuleActions 404 M_NOT_FOUND", "alice", rule + "/actions", "content", "nothing")
    add(
        "setPushRuleEnabled 404 M_NOT_FOUND",
        "alice",
        rule + "/enabled",
        "content",
        "nothing",
        json={"enabled": True},
    )
    add(
        "setPushRuleActions 404 M_NOT_FOUND",
        "alice",
        rule + "/actions",
        "content",
        "nothing",
        json={"actions": []},
    )
    for name, path, args, params in (
        ("getProtocolMetadata", "/thirdparty/protocol/{}", ("nothing",), {}),
        ("queryLocationByProtocol", "/thirdparty/location/{}", ("nothing",), {}),
        ("queryUserByProtocol", "/thirdparty/user/{}", ("nothing",), {}),
        ("queryLocationByAlias", "/thirdparty/location", (), {"alias": "#nothing:localhost"}),
        ("queryUserByID", "/thirdparty/user", (), {"userid": "@nothing:localhost"}),
    ):
        add(f"{name} 404 M_NOT_FOUND", "alice", path, *args, params=params)
    thumbnail = "/thumbnail/{}/{}"
    add(
        "getContentThumbnailAuthed 400 -",
        "alice",
        V1 + "/media" + thumbnail,
        "localhost",
        "x",
        params={"width": 0, "height": 0},
    )
    add(
        "getContentThumbnail 400 -", "", MEDIA + thumbnail, "localhost", "x", params={"width": 0, "height": 0}
    )
    add(
        "uploadContentToMXC 404 M_NOT_FOUND", "alice", MEDIA + "/upload/{}/{}", "localhost", "nothing", **TEXT
    )


def _cases(w: World) -> dict[str, Case]:
    found: dict[str, Case] = {}

    def add(key: str, who: str, path: str, *args: str, **options: Any) -> None:
        found[key] = Case(who, path, args, options)

    for group in (_account_data, _accounts, _membership, _directory, _backups, _reading, _people):
        group(add, w)
    return found


async def _world(server: Server) -> tuple[dict[str, User], dict[str, str]]:
    people = {name: await server.register(name) for name in ("alice", "bob", "carol", "recluse")}
    alice = people["alice"]
    room = await alice.create_room(name="Room")
    await alice.invite(room, people["bob"])
    await people["bob"].join(room)
    alias_name = f"room-{alice.localpart}"
    alias = f"#{alias_name}:{alice.server_name}"
    await alice.put("/directory/room/{}", alias, json={"room_id": room})
    block = {"default_action": "block"}
    recluse = people["recluse"]
    await recluse.put("/user/{}/account_data/m.invite_permission_config", recluse.user_id, json=block)
    backup = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {}}
    versions = [(await alice.post("/room_keys/version", json=backup))["version"] for _ in range(2)]
    names = {
        **{name: user.user_id for name, user in people.items()},
        "room": room,
        "event": await alice.send(room, "x"),
        "device": alice.device_id,
        "localpart": alice.localpart,
        "alias": alias,
        "alias_name": alias_name,
        "old_backup": versions[0],
        "backup": versions[1],
    }
    return people, names


def _named(key: str, patterns: dict[str, str]) -> str | None:
    """What a pattern that fits says."""
    for pattern, value in patterns.items():
        if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), key):
            return value
    return None


pytestmark = pytest.mark.skipif(spec_files.spec_dir() is None, reason=spec_files.ABSENT)


async def test_each_documented_error_is_reached(server: Server) -> None:
    """API-03."""
    people, names = await _world(server)
    cases = _cases(names)
    wrong: dict[str, str] = {}
    for key, operation in documented():
        case = cases.pop(key, None)
        if case is None:
            if _named(key, ELSEWHERE) is None and _named(key, NEVER) is None:
                wrong[key] = "nothing reaches it"
            continue
        user = people.get(case.who)
        client = user.client if user is not None else server.client
        options = {"token": user.token, **case.options} if user is not None else case.options
        answer = await client.exchange(operation.method, case.path, *case.args, expect=None, **options)
        _, status, code = key.split()
        came = (answer.json or {}).get("errcode")
        if answer.status != int(status) or code not in ("-", came):
            wrong[key] = f"{answer.status} {came}: {(answer.json or {}).get('error')}"
    assert not wrong, "\n".join(f"{key}: {what}" for key, what in sorted(wrong.items()))
    assert not cases, "not documented (any more)"


def test_what_is_reached_elsewhere_stands_there() -> None:
    keys = [key for key, _ in documented()]
    for pattern, name in ELSEWHERE.items():
        text = (FOLDER / name).read_text(encoding="utf-8")
        fit = [key for key in keys if _named(key, {pattern: ""}) is not None]
        assert fit, pattern
        for key in fit:
            _, status, code = key.split()
            if _named(key, NEVER) is None:
                assert (code if code != "-" else status) in text, f"{key} is not in {name}"
