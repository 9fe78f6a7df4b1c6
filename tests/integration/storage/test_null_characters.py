"""U+0000 in whatever a user may say: it is kept where the client's own content is, and refused with 400 where we keep names.

PostgreSQL's `text` cannot hold it. Nothing of it may come as far as the database: CHECKLIST API-03.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeserver.web import errors
from tests.support.server import Server

NULL = "a\0b"
CONTENT = {"msgtype": "m.text", "body": NULL, NULL: NULL}
ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"


def relating(**more: Any) -> dict[str, Any]:
    return {**CONTENT, "m.relates_to": {"rel_type": "m.thread", "event_id": "$x", **more}}


# (method, path, body): `{me}`, `{device}` and `{room}` are filled in.
REQUESTS: list[tuple[str, str, Any]] = [
    ("PUT", "/presence/{me}/status", {"presence": "online", "status_msg": NULL}),
    ("PUT", "/devices/{device}", {"display_name": NULL}),
    ("POST", "/delete_devices", {"devices": [NULL]}),
    ("POST", "/login", {"type": "m.login.password", "user": NULL, "password": NULL}),
    ("POST", "/login", {"type": "m.login.token", "token": NULL}),
    ("POST", "/register", {"username": NULL, "password": "x", "initial_device_display_name": NULL}),
    ("PUT", "/profile/{me}/displayname", {"displayname": NULL}),
    ("PUT", "/profile/{me}/org.example.x", {"org.example.x": {NULL: NULL}}),
    ("POST", "/user/{me}/filter", {"room": {"timeline": {"types": [NULL]}}, NULL: 1}),
    ("PUT", "/user/{me}/account_data/org.example.x", {NULL: NULL}),
    ("PUT", "/user/{me}/rooms/{room}/tags/u.x", {"order": 0.5, NULL: NULL}),
    ("PUT", "/user/{me}/account_data/m.ignored_user_list", {"ignored_users": {NULL: {}, "@a\0:b": {}}}),
    ("POST", "/room_keys/version", {"algorithm": NULL, "auth_data": {}}),
    ("POST", "/room_keys/version", {"algorithm": ALGORITHM, "auth_data": {NULL: NULL}}),
    ("POST", "/keys/upload", {"one_time_keys": {"signed_curve25519:" + NULL: {"key": NULL}}}),
    ("POST", "/keys/upload", {"fallback_keys": {NULL + ":x": {"key": NULL}}}),
    ("POST", "/keys/query", {"device_keys": {NULL: [], "{me}": [NULL]}}),
    ("POST", "/keys/claim", {"one_time_keys": {"{me}": {NULL: NULL}}}),
    ("POST", "/keys/signatures/upload", {"{me}": {NULL: {"signatures": {"{me}": {"ed25519:" + NULL: "x"}}}}}),
    ("PUT", "/sendToDevice/org.example.x/1", {"messages": {"{me}": {NULL: {NULL: NULL}}}}),
    ("PUT", "/sendToDevice/org.example.x/2", {"messages": {"{me}": {"*": {NULL: NULL}}}}),
    ("POST", "/createRoom", {"room_alias_name": NULL}),
    ("POST", "/createRoom", {"name": NULL, "topic": NULL}),
    ("POST", "/createRoom", {"invite": ["@a\0:localhost"]}),
    ("POST", "/createRoom", {"creation_content": {"type": NULL, NULL: NULL}}),
    ("POST", "/createRoom", {"initial_state": [{"type": NULL, "state_key": "", "content": {}}]}),
    ("POST", "/createRoom", {"initial_state": [{"type": "x", "state_key": NULL, "content": {}}]}),
    ("PUT", "/rooms/{room}/send/m.room.message/1", CONTENT),
    ("PUT", "/rooms/{room}/send/m.room.message/2", relating(event_id=NULL)),
    ("PUT", "/rooms/{room}/send/m.room.message/3", relating(rel_type=NULL)),
    ("PUT", "/rooms/{room}/send/m.reaction/4", relating(rel_type="m.annotation", key=NULL)),
    ("PUT", "/rooms/{room}/send/m.room.message/5", {**CONTENT, "m.mentions": {"user_ids": [NULL, "@\0:b"]}}),
    ("PUT", "/rooms/{room}/send/m.room.redaction/6", {"redacts": "$" + NULL}),
    ("PUT", "/rooms/{room}/redact/$x\x01/7", {"reason": NULL}),
    ("PUT", "/rooms/{room}/state/m.room.name/", {"name": NULL}),
    (
        "PUT",
        "/rooms/{room}/state/m.room.canonical_alias/",
        {"alias": "#a\0:localhost", "alt_aliases": [NULL]},
    ),
    ("PUT", "/rooms/{room}/state/m.room.member/{me}", {"membership": "join", "displayname": NULL}),
    ("PUT", "/rooms/{room}/state/m.space.child/!x", {"via": [NULL], "order": NULL}),
    ("POST", "/rooms/{room}/invite", {"user_id": "@a\0:localhost", "reason": NULL}),
    ("POST", "/rooms/{room}/upgrade", {"new_version": NULL}),
    ("POST", "/rooms/{room}/receipt/m.read/$x", {"thread_id": NULL}),
    ("POST", "/rooms/{room}/read_markers", {"m.fully_read": "$" + NULL}),
    ("PUT", "/rooms/{room}/typing/{me}", {"typing": True, NULL: NULL}),
    ("PUT", "/directory/list/room/{room}", {"visibility": NULL}),
    ("PUT", "/directory/room/#x:localhost", {"room_id": "!" + NULL}),
    ("PUT", "/pushrules/global/content/x", {"pattern": NULL, "actions": [NULL]}),
    ("PUT", "/pushrules/global/override/x", {"conditions": [{"kind": NULL, "key": NULL}], "actions": []}),
    ("POST", "/user_directory/search", {"search_term": NULL}),
    ("POST", "/publicRooms", {"filter": {"generic_search_term": NULL, "room_types": [NULL]}, "since": NULL}),
    ("POST", "/publicRooms", {"third_party_instance_id": NULL}),
    ("POST", "/account/3pid/email/requestToken", {"client_secret": NULL, "email": NULL, "send_attempt": 1}),
    ("POST", "/account/3pid/delete", {"medium": NULL, "address": NULL}),
    ("POST", "/account/password", {"new_password": NULL}),
    ("POST", "/user/{me}/openid/request_token", {NULL: NULL}),
    ("POST", "/refresh", {"refresh_token": NULL}),
    ("PUT", "/dehydrated_device", {"device_id": NULL, "device_data": {"algorithm": NULL}, "device_keys": {}}),
]
FILTERS = [
    {"types": [NULL], "not_types": [NULL]},
    {"senders": ["@a\0:b"]},
    {"rooms": ["!a\0:b"]},
    {"related_by_rel_types": [NULL], "related_by_senders": [NULL]},
]


async def test_u0000_never_reaches_the_database(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if server.app is None:
        pytest.skip("it is looked for in this process")
    too_far: list[str] = []
    unforeseen = errors._unforeseen

    def note(error: BaseException, request_id: str, operation: str) -> Any:
        too_far.append(f"{operation}: {error!r}")
        return unforeseen(error, request_id, operation)

    monkeypatch.setattr(errors, "_unforeseen", note)
    alice = await server.register("alice")
    room = await alice.create_room()

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {filled(key): filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        if not isinstance(value, str):
            return value
        for name, text in (("{me}", alice.user_id), ("{device}", alice.device_id), ("{room}", room)):
            value = value.replace(name, text)
        return value

    for method, path, body in REQUESTS:
        segments = filled(path).split("/")[1:]
        template = "/{}" * len(segments)
        answer = await alice.exchange(method, template, *segments, json=filled(body), expect=None)
        assert answer.status in {200, 400, 401, 403, 404}, (path, answer.json)
    for each in FILTERS:
        inline = {"filter": json.dumps(each)}
        for path in ("/rooms/{}/messages", "/rooms/{}/context/$x"):
            await alice.exchange("GET", path, room, params={"dir": "b", **inline}, expect=None)
        await alice.exchange(
            "GET", "/sync", params={"filter": json.dumps({"room": {"timeline": each}})}, expect=None
        )
    assert not too_far
    await alice.send(room, "and all is well")
    assert (await alice.sync())["rooms"]["join"][room]["timeline"]["events"]
    assert not too_far
