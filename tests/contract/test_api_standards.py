"""CHECKLIST section 1: what holds for every endpoint, tried on a running server.

That every answer in any test is JSON with the right headers, and every error has its code and sentence, is checked by
the tests' client itself (`spec_rules`).
"""

import json
from typing import Any

import pytest

from tests.support.endpoints import declared, sample_path
from tests.support.raw_http import RawConnection
from tests.support.server import Server
from tests.support.user import User

JSON = {"Content-Type": "application/json"}
ANY_ROOM = "!nowhere:localhost"


@pytest.fixture
async def alice(server: Server) -> User:
    return await server.register("alice")


@pytest.fixture
async def room(alice: User) -> str:
    return await alice.create_room()


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "path", ["/_matrix/client/v3/nothing", "/_matrix/client/v99/sync", "/_matrix/nothing"]
)
async def test_an_unknown_path_is_unrecognized(alice: User, path: str) -> None:
    """API-01, API-02."""
    await alice.get(path, expect=(404, "M_UNRECOGNIZED"))
    await alice.post(path, expect=(404, "M_UNRECOGNIZED"))


@pytest.mark.parametrize(
    "method_and_path",
    [
        "DELETE /sync",
        "POST /account/whoami",
        "GET /createRoom",
        "PATCH /login",
        "PUT /_matrix/client/versions",
    ],
)
async def test_another_method_on_a_known_path_is_unrecognized(alice: User, method_and_path: str) -> None:
    """API-02."""
    method, path = method_and_path.split()
    await alice.client.request(method, path, token=alice.token, expect=(405, "M_UNRECOGNIZED"))


@pytest.mark.parametrize("body", [b"{", b"hello", b'{"a": NaN}', b'{"name": "\xff"}', b'{"name": "x"} {}'])
async def test_what_is_not_json_is_said_to_be_not_json(alice: User, body: bytes) -> None:
    """API-03."""
    await alice.post("/createRoom", data=body, headers=JSON, expect=(400, "M_NOT_JSON"))


@pytest.mark.parametrize("body", [b'{"a": "\xff"}', b'{"a": 1e999}', b'{"a": ' + b"9" * 10_000 + b"}"])
async def test_a_body_that_is_compared_whole_is_read_whole(alice: User, body: bytes) -> None:
    """API-03, AUTH-05: interactive authentication looks at more of the body than the endpoint does."""
    await alice.post("/delete_devices", data=body, headers=JSON, expect=None)
    await alice.delete("/devices/{}", alice.device_id, data=body, headers=JSON, expect=None)


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"17", b"null", b'{"name": {}}', b'{"invite": "x"}'])
async def test_json_of_the_wrong_shape_is_bad_json(alice: User, body: bytes) -> None:
    """API-03."""
    await alice.post("/createRoom", data=body, headers=JSON, expect=(400, "M_BAD_JSON"))


async def test_a_missing_parameter_is_named(alice: User, room: str) -> None:
    """API-03."""
    error = await alice.post("/rooms/{}/kick", room, json={"reason": "no"}, expect=(400, "M_MISSING_PARAM"))
    assert "user_id" in error["error"]


async def test_a_wrong_value_is_an_invalid_param(alice: User, room: str) -> None:
    """API-03."""
    await alice.get("/rooms/{}/messages", room, params={"dir": "sideways"}, expect=(400, "M_INVALID_PARAM"))
    await alice.get(
        "/rooms/{}/messages", room, params={"dir": "b", "limit": "x"}, expect=(400, "M_INVALID_PARAM")
    )


async def test_json_needs_no_content_type(alice: User) -> None:
    """API-04."""
    answer = await alice.exchange(
        "POST", "/createRoom", data=b'{"name": "caf\xc3\xa9"}', headers={"Content-Type": ""}
    )
    name = await alice.get("/rooms/{}/state/m.room.name", answer.json["room_id"])
    assert name == {"name": "café"}


async def test_logging_out_needs_no_body(server: Server) -> None:
    """API-05."""
    for path in ("/logout", "/logout/all"):
        user = await server.register("leaver")
        await user.post(path, data=b"")
        await user.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))


# ------------------------------------------------------------------------------------------------- web browser clients


async def test_a_preflight_works_on_every_path_without_running_the_endpoint(server: Server) -> None:
    """API-06, API-07."""
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
    async with RawConnection(server.url) as connection:
        for path in {sample_path(path) for endpoint in declared() for path in endpoint.paths}:
            answer = await connection.request("OPTIONS", path, asked)
            assert answer.status in (200, 204), path
            assert answer.headers["access-control-allow-origin"] == "*"
            methods = {method.strip() for method in answer.headers["access-control-allow-methods"].split(",")}
            assert methods >= {"GET", "POST", "PUT", "DELETE", "OPTIONS"}
            headers = {
                name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")
            }
            assert headers >= {"x-requested-with", "content-type", "authorization"}


async def test_errors_can_be_read_by_browsers_too(server: Server) -> None:
    """API-07."""
    answer = await server.client.exchange("GET", "/account/whoami", expect=(401, "M_MISSING_TOKEN"))
    assert answer.headers["access-control-allow-origin"] == "*"
    missing = await server.client.exchange("GET", "/nothing", expect=(404, "M_UNRECOGNIZED"))
    assert missing.headers["access-control-allow-origin"] == "*"


# ---------------------------------------------------------------------------------------------- transaction identifiers


async def test_a_repeated_put_returns_the_first_answer_and_does_nothing(alice: User, room: str) -> None:
    """API-09."""
    first = await alice.send_event(room, "m.room.message", {"msgtype": "m.text", "body": "one"}, txn="t")
    again = await alice.send_event(room, "m.room.message", {"msgtype": "m.text", "body": "two"}, txn="t")
    assert first == again
    redaction = await alice.redact(room, first, txn="r")
    assert await alice.redact(room, first, txn="r") == redaction
    bodies = [event["content"].get("body") for event in (await alice.messages(room))["chunk"]]
    assert "two" not in bodies


async def test_a_transaction_belongs_to_one_device_and_one_endpoint(alice: User, room: str) -> None:
    """API-10."""
    message = {"msgtype": "m.text", "body": "hi"}
    first = await alice.send_event(room, "m.room.message", message, txn="t")
    other_endpoint = await alice.redact(room, first, txn="t")
    other_device = await (await alice.new_device()).send_event(room, "m.room.message", message, txn="t")
    assert len({first, other_endpoint, other_device}) == 3


async def test_a_transaction_survives_a_token_refresh(server: Server) -> None:
    """API-10, AUTH-18."""
    user = await server.register("refresher", refresh_token=True)
    room = await user.create_room()
    message = {"msgtype": "m.text", "body": "hi"}
    first = await user.send_event(room, "m.room.message", message, txn="t")
    fresh = await user.client.post("/refresh", json={"refresh_token": user.refresh_token})
    user.token = fresh["access_token"]
    assert await user.send_event(room, "m.room.message", message, txn="t") == first


# --------------------------------------------------------------------------------------------------------- access tokens


async def test_a_token_is_taken_from_the_header_or_the_query(alice: User) -> None:
    """API-13."""
    in_header = await alice.get("/account/whoami")
    in_query = await alice.client.get("/account/whoami", params={"access_token": alice.token})
    assert in_header == in_query
    assert (in_header["user_id"], in_header["device_id"]) == (alice.user_id, alice.device_id)


async def test_no_token_and_a_wrong_token_are_told_apart(server: Server) -> None:
    """API-14."""
    await server.client.get("/account/whoami", expect=(401, "M_MISSING_TOKEN"))
    await server.client.get("/account/whoami", token="wrong", expect=(401, "M_UNKNOWN_TOKEN"))
    user = await server.register("gone")
    await user.logout()
    await user.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))


async def test_versions_are_listed_by_name_for_anybody(server: Server) -> None:
    """API-15."""
    versions = (await server.client.get("/_matrix/client/versions"))["versions"]
    assert {"v1.1", "v1.4", "v1.11", "v1.15", "v1.16"} <= set(versions)


# ----------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("key", ["a/b", "#?", "50%", "%2F", "a+b c", "ü", "..", "."])
async def test_path_parameters_are_decoded_exactly_once(alice: User, room: str, key: str) -> None:
    """API-17."""
    await alice.put_state(room, "org.example/slashed", {"key": key}, key)
    assert await alice.state(room, "org.example/slashed", key) == {"key": key}
    persisted = [
        event["state_key"] for event in await alice.state(room) if event["type"] == "org.example/slashed"
    ]
    assert persisted == [key]


async def test_an_empty_state_key_needs_no_slash_and_state_takes_no_post(alice: User, room: str) -> None:
    """API-18."""
    await alice.put("/rooms/{}/state/m.room.topic", room, json={"topic": "a"})
    assert (await alice.get("/rooms/{}/state/m.room.topic/", room))["topic"] == "a"
    await alice.put("/rooms/{}/state/m.room.topic/", room, json={"topic": "b"})
    assert (await alice.get("/rooms/{}/state/m.room.topic", room))["topic"] == "b"
    await alice.post(
        "/rooms/{}/state/m.room.topic", room, json={"topic": "c"}, expect=(405, "M_UNRECOGNIZED")
    )
    await alice.post(
        "/rooms/{}/state/m.room.topic/", room, json={"topic": "c"}, expect=(405, "M_UNRECOGNIZED")
    )


# ------------------------------------------------------------------------------------------------------------- pages


async def test_paging_ends_when_no_token_comes_any_more(alice: User, room: str) -> None:
    """API-19."""
    for number in range(5):
        await alice.send(room, str(number))
    seen, page = [], await alice.messages(room, limit=2)
    for _ in range(50):
        seen += page["chunk"]
        if "end" not in page:
            break
        page = await alice.messages(room, limit=2, from_=page["end"])
    assert "end" not in page
    assert seen[-1]["type"] == "m.room.create"
    assert len({event["event_id"] for event in seen}) == len(seen)


@pytest.mark.parametrize("token", ["nonsense", "s", "t1_2_3_4_5_6", "-1", "s99999999999999999999999"])
async def test_a_foreign_pagination_token_is_refused(alice: User, room: str, token: str) -> None:
    """API-20."""
    await alice.get(
        "/rooms/{}/messages", room, params={"dir": "b", "from": token}, expect=(400, "M_INVALID_PARAM")
    )
    await alice.get("/sync", params={"since": token}, expect=(400, "M_INVALID_PARAM"))


async def test_a_page_has_a_size_that_the_server_bounds(alice: User, room: str) -> None:
    """API-21."""
    for number in range(15):
        await alice.send(room, str(number))
    assert len((await alice.messages(room))["chunk"]) == 10
    everything = await alice.messages(room, limit=1_000_000)
    assert len(everything["chunk"]) > 15
    await alice.get(
        "/rooms/{}/messages", room, params={"dir": "b", "limit": -1}, expect=(400, "M_INVALID_PARAM")
    )


# ------------------------------------------------------------------------------------------------------------ events


@pytest.mark.parametrize("value", [1.5, 1e20, 2**53, -(2**53), {"deep": [2**53]}])
async def test_numbers_that_are_no_canonical_json_are_refused(alice: User, room: str, value: Any) -> None:
    """API-22."""
    await alice.send_event(room, "org.example.number", {"value": value}, expect=(400, "M_BAD_JSON"))
    await alice.put_state(room, "org.example.number", {"value": value}, expect=(400, "M_BAD_JSON"))


async def test_the_largest_safe_integers_are_kept(alice: User, room: str) -> None:
    """API-22."""
    content = {"value": 2**53 - 1, "other": -(2**53) + 1, "zero": 0}
    event_id = await alice.send_event(room, "org.example.number", content)
    assert (await alice.event(room, event_id))["content"] == content


async def test_an_event_that_is_too_large_is_refused(alice: User, room: str) -> None:
    """API-23."""
    await alice.send(room, "x" * 60_000)
    await alice.send(room, "x" * 65_600, expect=(413, "M_TOO_LARGE"))
    # counted in bytes of UTF-8, not in characters
    await alice.send(room, "ü" * 40_000, expect=(413, "M_TOO_LARGE"))


@pytest.mark.parametrize("long", ["x" * 256, "ü" * 128])
async def test_types_and_state_keys_have_255_bytes(alice: User, room: str, long: str) -> None:
    """API-23."""
    await alice.send_event(room, long, {}, expect=None)
    for event_type, key in ((long, ""), ("org.example.type", long)):
        answer = await alice.exchange(
            "PUT", "/rooms/{}/state/{}/{}", room, event_type, key, json={}, expect=None
        )
        assert answer.status in (400, 413), json.dumps(answer.json)
    fits = long.encode()[:254].decode()
    assert await alice.put_state(room, fits, {"a": 1}, fits)
