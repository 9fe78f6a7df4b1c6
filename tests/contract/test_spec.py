"""The reader of the specification's data: complete, true to its examples, and sharp enough to catch a wrong answer."""

import csv
import re

import msgspec
import pytest

from tests.support import spec_files
from tests.support.spec import Exchange, Operation, Spec, load, problems_of, validate_response

SPEC = load()
needs_spec = pytest.mark.skipif(SPEC is None, reason=spec_files.ABSENT)
HEADERS = {"content-type": "application/json", "access-control-allow-origin": "*"}

# Written by hand in endpoints.tsv from the prose; the specification has no OpenAPI operation for them.
PROSE_ONLY = {"/_matrix/client/v3/auth/{authType}/fallback/web", "/_matrix/static/client/login/"}


@pytest.fixture
def spec() -> Spec:
    assert SPEC is not None
    return SPEC


def answer(method: str, path: str, status: int, body: object, **query: str) -> list[str]:
    return problems_of(Exchange(method, path, status, msgspec.json.encode(body), query, HEADERS))


def sections(operation: Operation) -> list[int | str]:
    return ["request", *operation.responses]


@needs_spec
def test_every_schema_compiles(spec: Spec) -> None:
    compiled = [op.validator(part) for op in spec.operations for part in sections(op)]
    assert len([validator for validator in compiled if validator is not None]) >= 579


@needs_spec
def test_every_example_of_the_specification_fits_its_own_schema(spec: Spec) -> None:
    wrong, count = [], 0
    for operation in spec.operations:
        for part in sections(operation):
            validator = operation.validator(part)
            for example in operation.examples(part):
                count += 1
                if validator is not None and not validator.is_valid(example):
                    wrong.append((operation.operation_id, part))
    # one nested example was written before its schema asked for `icon` (see spec_rules)
    assert wrong == [("getProtocols", "200")]
    assert count >= 344


@needs_spec
def test_every_row_of_the_endpoint_table_is_found_by_its_path(spec: Spec) -> None:
    with (spec.folder / "endpoints.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert len(rows) > 200
    for row in rows:
        if row["path"] not in PROSE_ONLY:
            found = spec.find(row["method"], re.sub(r"\{\w+\}", "some%2Fthing", row["path"]))
            assert row["operation_id"] in [operation.operation_id for operation in found], row
            assert {operation.path for operation in found} == {row["path"]}


@needs_spec
@pytest.mark.parametrize(
    ("called", "means"),
    [
        ("GET /_matrix/client/r0/sync", "sync"),
        ("GET /_matrix/client/unstable/sync", "sync"),
        ("GET /_matrix/client/v3/rooms/!a:b/state/m.room.name/", "getRoomStateWithKey"),
        ("GET /_matrix/client/v3/rooms/!a:b/state/m.room.name", "getRoomStateWithKey"),
        ("GET /_matrix/client/v3/rooms/!a:b/relations/$e", "getRelatingEvents"),
        ("GET /_matrix/client/unstable/im.nheko.summary/summary/%23a:b", "getRoomSummary"),
        ("GET /_matrix/client/unstable/im.nheko.summary/rooms/!a:b/summary", "getRoomSummary"),
        ("GET /_matrix/client/unstable/org.matrix.msc2965/auth_metadata", "getAuthMetadata"),
        ("GET /_matrix/client/unstable/uk.tcpip.msc4133/profile/@a:b/m.tz", "getProfileField"),
        ("GET /_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms", "getMutualRooms"),
        ("POST /_matrix/client/unstable/keys/device_signing/upload", "uploadCrossSigningKeys"),
        ("POST /_matrix/media/r0/upload", "uploadContent"),
        ("GET /_matrix/client/v3/login/sso/redirect", "redirectToSSO"),
        ("GET /_matrix/federation/v1/query/profile", "queryProfile"),
        ("GET /_matrix/federation/v1/query/weather", "queryInfo"),
        ("POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync", None),
        ("GET /_matrix/client/v3/rooms//state", None),
        ("GET /_matrix/client/v3/nothing", None),
    ],
)
def test_older_and_unstable_names_are_the_same_operation(spec: Spec, called: str, means: str | None) -> None:
    """API-17, API-18: paths are told apart while still percent-encoded; an empty state key needs no slash."""
    method, _, path = called.partition(" ")
    found = spec.find(method, path)
    assert (found[0].operation_id if found else None) == means


@needs_spec
def test_a_response_of_the_wrong_shape_is_named_with_its_place() -> None:
    whole = {"user_id": "@a:b", "device_id": "D", "is_guest": False}
    assert answer("GET", "/_matrix/client/v3/account/whoami", 200, whole) == []
    (problem,) = answer("GET", "/_matrix/client/v3/account/whoami", 200, {**whole, "is_guest": "no"})
    assert "getTokenOwner" in problem
    assert "/is_guest" in problem
    (problem,) = answer("GET", "/_matrix/client/v3/account/whoami", 200, {})
    assert '"user_id" is a required property' in problem


@needs_spec
def test_an_undocumented_success_is_a_mistake() -> None:
    (problem,) = answer("GET", "/_matrix/client/v3/account/whoami", 201, {"user_id": "@a:b"})
    assert "status 201 is not documented" in problem


@needs_spec
def test_success_without_json_is_a_mistake() -> None:
    html = Exchange(
        "GET", "/_matrix/client/v3/account/whoami", 200, b"<p>", {}, {**HEADERS, "content-type": "text/html"}
    )
    (problem,) = problems_of(html)
    assert "answers text/html, not JSON" in problem


@pytest.mark.parametrize(
    "body", [{}, {"errcode": "M_X"}, {"error": "no"}, {"errcode": "no code", "error": "no"}, [], "no"]
)
def test_every_error_has_errcode_and_error(body: object) -> None:
    """API-01."""
    assert answer("GET", "/_matrix/client/v3/sync", 400, body) != []
    assert answer("GET", "/_matrix/client/v3/nobody/knows/this", 404, body) != []


def test_a_proper_error_passes_everywhere() -> None:
    """API-01, API-02."""
    error = {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}
    assert answer("GET", "/_matrix/client/v3/nobody/knows/this", 404, error) == []
    assert answer("PATCH", "/_matrix/client/v3/sync", 405, error) == []


def test_a_question_for_interactive_authentication_is_no_error() -> None:
    """AUTH-02, AUTH-03, API-14: one status, two kinds of answer."""
    path = "/_matrix/client/v3/account/password"
    flows = [{"stages": ["m.login.password"]}]
    assert answer("POST", path, 401, {"flows": flows, "params": {}, "session": "s"}) == []
    failed = {
        "errcode": "M_FORBIDDEN",
        "error": "Wrong password",
        "flows": flows,
        "params": {},
        "session": "s",
    }
    assert answer("POST", path, 401, failed) == []
    assert answer("POST", path, 401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Unknown token"}) == []
    assert answer("POST", path, 401, {"flows": flows}) != []


def test_a_rate_limit_says_when_to_come_back() -> None:
    """API-08."""
    error = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests"}
    path = "/_matrix/client/v3/login"
    body = msgspec.json.encode(error)
    assert problems_of(Exchange("POST", path, 429, body, {}, {**HEADERS, "retry-after": "2"})) == []
    assert problems_of(Exchange("POST", path, 429, body, {}, HEADERS)) != []
    assert answer("POST", path, 400, error) != []


def test_cors_headers_are_on_every_response() -> None:
    """API-07."""
    body = msgspec.json.encode({"versions": ["v1.1"]})
    bare = {"content-type": "application/json", "server": "x"}
    (problem,) = problems_of(Exchange("GET", "/_matrix/client/versions", 200, body, {}, bare))
    assert "API-07" in problem


@pytest.mark.parametrize("body", [b'{"versions": NaN}', b'{"versions": ["\xff"]}', b'["\\ud800"]', b"{", b""])
def test_json_is_strict(body: bytes) -> None:
    """API-04."""
    assert any(
        "API-04" in problem for problem in validate_response("GET", "/_matrix/client/versions", 200, body)
    )


def sync(room: dict[str, object]) -> dict[str, object]:
    return {"next_batch": "s1", "device_unused_fallback_key_types": [], "rooms": {"join": {"!a:b": room}}}


MESSAGE = {
    "type": "m.room.message", "sender": "@a:b", "event_id": "$1", "origin_server_ts": 1, "content": {"body": "hi"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("room", "rule"),
    [
        ({"timeline": {"events": [MESSAGE]}}, None),
        ({"timeline": {"events": [MESSAGE, MESSAGE]}}, "SYNC-04"),
        ({"timeline": {"events": [], "limited": True}}, "SYNC-04"),
        ({"state_after": {"events": []}}, "SYNC-06"),
        ({"timeline": {"events": [{**MESSAGE, "room_id": "!a:b"}]}}, "FILT-10"),
        ({"timeline": {"events": [{**MESSAGE, "depth": 4}]}}, "FILT-06"),
    ],
)
def test_the_prose_rules_of_sync_are_checked(room: dict[str, object], rule: str | None) -> None:
    problems = answer("GET", "/_matrix/client/v3/sync", 200, sync(room))
    assert [problem.partition(":")[0] for problem in problems] == ([rule] if rule else [])


def test_sync_always_names_the_unused_fallback_keys() -> None:
    """SYNC-21."""
    (problem,) = answer("GET", "/_matrix/client/v3/sync", 200, {"next_batch": "s1"})
    assert problem.startswith("SYNC-21")


def test_state_after_replaces_state_when_asked_for() -> None:
    """SYNC-06."""
    path = "/_matrix/client/v3/sync"
    assert answer("GET", path, 200, sync({"state_after": {"events": []}}), use_state_after="true") == []
    assert answer("GET", path, 200, sync({"state": {"events": []}}), use_state_after="true") != []


def test_a_whole_state_event_is_whole_when_asked_for() -> None:
    """ROOM-21; the schema's `oneOf` would refuse every event."""
    path = "/_matrix/client/v3/rooms/!a:b/state/m.room.name/"
    event = {**MESSAGE, "type": "m.room.name", "state_key": "", "room_id": "!a:b", "content": {"name": "x"}}
    assert answer("GET", path, 200, event, format="event") == []
    assert answer("GET", path, 200, {"name": "x"}) == []
    assert answer("GET", path, 200, {"name": "x"}, format="event") != []
