"""CHECKLIST section 1, as far as the plumbing answers for it."""

import io

import pytest

from tests.integration.web.conftest import Client
from tests.integration.web.sample import C

ROOM = "!abc:localhost"


async def refused(ask: Client, method: str, path: str, **options: object) -> tuple[int, str, str]:
    status, answer = await ask(method, path, **options)
    return status, answer["errcode"], answer["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("GET", f"{C}/required"),
        ("POST", f"{C}/echo"),
        ("GET", f"{C}/whoami"),
        ("GET", f"{C}/fails"),
    ],
)
async def test_every_error_is_json_with_errcode_and_error(ask: Client, method: str, path: str) -> None:
    """API-01"""
    answer = await ask.full(method, path)
    assert answer.status >= 400
    assert set(answer.json) >= {"errcode", "error"}
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    ["/", "/nope", "/_matrix/client/v3/nope", "/_matrix/client/v9/echo", "/_matrix/federation/v1/nope"],
)
async def test_an_unknown_path_is_404_unrecognized(ask: Client, path: str) -> None:
    """API-02"""
    assert (await refused(ask, "GET", path))[:2] == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize(
    "path", [f"{C}/echo", f"{C}/rooms/{ROOM}/send/m.x/1", "/_matrix/federation/v1/send/1"]
)
async def test_a_known_path_with_another_method_is_405_unrecognized(ask: Client, path: str) -> None:
    """API-02"""
    answer = await ask.full("DELETE", path)
    assert (answer.status, answer.json["errcode"]) == (405, "M_UNRECOGNIZED")
    assert answer.headers["allow"] in {"GET, HEAD, OPTIONS", "OPTIONS, PUT"}


@pytest.mark.parametrize(
    ("body", "errcode", "place"),
    [
        (b"", "M_NOT_JSON", ""),
        (b"nonsense", "M_NOT_JSON", ""),
        (b'{"name": "x"', "M_NOT_JSON", ""),
        (b'{"name": "x"} trailing', "M_NOT_JSON", ""),
        (b'\xef\xbb\xbf{"name": "x"}', "M_NOT_JSON", ""),
        (b'{"name": "\xff"}', "M_NOT_JSON", ""),
        (b'{"name": "\\ud800"}', "M_NOT_JSON", ""),
        (b'{"name": NaN}', "M_NOT_JSON", ""),
        (b"[]", "M_BAD_JSON", "array"),
        (b"null", "M_BAD_JSON", "null"),
        (b'"text"', "M_BAD_JSON", "str"),
        (b'{"name": 1}', "M_BAD_JSON", "name"),
        (b'{"name": "x", "inner": [{"number": "1"}]}', "M_BAD_JSON", "inner[0].number"),
        (b'{"name": "x", "inner": [{"number": 1e400}]}', "M_BAD_JSON", ""),
        (b"{}", "M_MISSING_PARAM", "name"),
        (b'{"name": "x", "inner": [{}]}', "M_MISSING_PARAM", "inner[0].number"),
        (b'{"name": "x", "kind": "c"}', "M_INVALID_PARAM", "kind"),
        (b'{"name": "x", "count": -1}', "M_INVALID_PARAM", "count"),
    ],
)
async def test_a_bad_body_is_refused_with_the_place_of_the_mistake(
    ask: Client, body: bytes, errcode: str, place: str
) -> None:
    """API-03"""
    status, found, error = await refused(ask, "POST", f"{C}/typed", data=body)
    assert (status, found) == (400, errcode)
    assert place in error


@pytest.mark.parametrize(
    ("query", "errcode", "name"),
    [
        ("", "M_MISSING_PARAM", "room_id"),
        ("?room_id=abc", "M_INVALID_PARAM", "room_id"),
        ("?room_id=%FF", "M_INVALID_PARAM", "room_id"),
        ("?room_id=!a%00:b", "M_INVALID_PARAM", "room_id"),
    ],
)
async def test_a_missing_or_wrong_parameter_is_named(
    ask: Client, query: str, errcode: str, name: str
) -> None:
    """API-03"""
    status, found, error = await refused(ask, "GET", f"{C}/required{query}")
    assert (status, found) == (400, errcode)
    assert name in error


@pytest.mark.parametrize(
    "query",
    ["limit=x", "limit=", "limit=1.0", "limit=%D9%A1", "limit=9007199254740992", "limit=1_0", "limit=%201",
     "flag=1", "flag=True", "flag=", "dir=x", "limit=" + "9" * 5000],
)  # fmt: skip
async def test_a_value_outside_its_type_is_invalid(ask: Client, query: str) -> None:
    """API-03"""
    assert (await refused(ask, "GET", f"{C}/echo?{query}"))[:2] == (400, "M_INVALID_PARAM")


async def test_parameters_arrive_by_their_names_stable_and_unstable(ask: Client) -> None:
    query = "from=a%2Bb+c&limit=5&org.example.flag=true&dir=f&via=x&via=y&unknown=1"
    _, answer = await ask("GET", f"{C}/echo?{query}", headers={"User-Agent": "test"})
    del answer["values"]["ip"]
    assert answer["values"] == {
        "from": "a+b c", "limit": 5, "flag": True, "dir": "f", "via": ["x", "y"], "agent": "test",
    }  # fmt: skip


@pytest.mark.parametrize(
    "prefix", ["/_matrix/client/v3", "/_matrix/client/r0", "/_matrix/client/unstable/org.example"]
)
async def test_an_endpoint_answers_under_all_its_paths(ask: Client, prefix: str) -> None:
    assert (await ask("GET", f"{prefix}/echo"))[0] == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json; charset=utf-8", "nonsense"])
async def test_json_is_accepted_whatever_the_content_type(ask: Client, content_type: str | None) -> None:
    """API-04"""
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await ask.full("POST", f"{C}/typed", data='{"name": "ü"}'.encode(), headers=headers)
    assert answer.json["values"]["name"] == "ü"
    assert answer.headers["content-type"] == "application/json"
    assert "ü".encode() in answer.body


async def test_the_last_of_duplicate_keys_wins(ask: Client) -> None:
    body = b'{"a": 1, "a": 2}'
    _, answer = await ask("PUT", f"{C}/rooms/{ROOM}/send/m.x/1", data=body, token="alice")
    assert answer["values"]["body"] == {"a": 2}
    assert (await ask("POST", f"{C}/typed", data=b'{"name": "a", "name": "b"}'))[1]["values"]["name"] == "b"


async def test_an_empty_body_is_accepted_where_every_field_is_optional(ask: Client) -> None:
    """API-05"""
    assert await ask("POST", f"{C}/optional") == (200, {"values": {"reason": None}})
    assert (await ask("POST", f"{C}/logout", token="alice"))[0] == 200
    assert (await ask("POST", f"{C}/nothing", data=b"not JSON"))[0] == 200
    assert (await refused(ask, "PUT", f"{C}/rooms/{ROOM}/send/m.x/1", token="alice"))[1] == "M_NOT_JSON"


async def test_an_upload_takes_raw_bytes(ask: Client) -> None:
    """API-05"""
    data = bytes(range(256)) * 1000
    _, answer = await ask(
        "POST", "/_matrix/media/v3/upload", data=data, headers={"Content-Type": "image/png"}
    )
    assert answer["values"] == {"size": 256_000, "type": "image/png"}


async def test_a_form_is_read_by_its_fields(ask: Client) -> None:
    _, answer = await ask("POST", f"{C}/form", data=b"a=1&b=x+y&a=%C3%BC")
    assert answer["values"] == {"a": ["1", "ü"], "b": ["x y"]}


@pytest.mark.parametrize("path", [f"{C}/whoami", f"{C}/act", "/nope", "/%FF"])
async def test_options_answers_everywhere_without_auth_and_without_running_anything(
    ask: Client, path: str
) -> None:
    """API-06"""
    answer = await ask.full("OPTIONS", path)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-max-age"] == "86400"
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", f"{C}/echo", 200), ("GET", "/nope", 404), ("GET", f"{C}/fails", 500), ("OPTIONS", f"{C}/echo", 204),
     ("POST", f"{C}/typed", 400), ("GET", f"{C}/streamed", 200), ("HEAD", f"{C}/echo", 200)],
)  # fmt: skip
async def test_every_answer_carries_the_cors_headers(
    ask: Client, method: str, path: str, status: int
) -> None:
    """API-07"""
    answer = await ask.full(method, path)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "*"
    methods = answer.headers["access-control-allow-methods"].split(", ")
    assert {"GET", "POST", "PUT", "DELETE", "OPTIONS"} <= set(methods)
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"X-Requested-With", "Content-Type", "Authorization"} <= set(allowed)


async def test_head_answers_like_get_without_a_body(ask: Client) -> None:
    got, head = await ask.full("GET", f"{C}/big"), await ask.full("HEAD", f"{C}/big")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("!a%2Fb%23c%3Fd%2Be%25f:x", "!a/b#c?d+e%f:x"),
        ("!a%252Fb:x", "!a%2Fb:x"),
        ("!a+b:x", "!a+b:x"),
        ("!%C3%BC:x", "!ü:x"),
        ("%21a%3Ax", "!a:x"),
    ],
)
async def test_path_parameters_are_percent_decoded_once(ask: Client, sent: str, seen: str) -> None:
    """API-17"""
    _, answer = await ask("GET", f"{C}/rooms/{sent}/state/m.x/k")
    assert answer["values"]["room"] == seen


@pytest.mark.parametrize("path", ["%FF", "a%00b", "%ED%A0%80"])
async def test_a_path_that_is_no_text_is_refused(ask: Client, path: str) -> None:
    """API-17"""
    assert (await refused(ask, "GET", f"{C}/rooms/{path}/state/m.x/k"))[:2] == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize("end", ["", "/"])
async def test_an_empty_state_key_needs_no_trailing_slash_and_may_have_one(ask: Client, end: str) -> None:
    """API-18"""
    _, answer = await ask("GET", f"{C}/rooms/{ROOM}/state/m.room.name{end}")
    assert answer["values"] == {"room": ROOM, "type": "m.room.name", "key": ""}
    assert (await refused(ask, "POST", f"{C}/rooms/{ROOM}/state/m.room.name{end}"))[:2] == (
        405,
        "M_UNRECOGNIZED",
    )


async def test_a_body_beyond_the_limit_is_413(ask: Client) -> None:
    """API-23: what is larger than any event is refused before it is read."""
    assert (await refused(ask, "POST", f"{C}/typed", data=io.BytesIO(b"x" * 1_100_000)))[:2] == (
        413,
        "M_TOO_LARGE",
    )


async def test_our_own_fault_tells_nothing_but_a_request_id(ask: Client) -> None:
    answer = await ask.full("GET", f"{C}/fails")
    assert (answer.status, answer.json["errcode"]) == (500, "M_UNKNOWN")
    assert b"secret" not in answer.body
    assert answer.headers["x-request-id"] in answer.json["error"]
