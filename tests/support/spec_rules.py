"""What the specification demands of responses in its prose alone, checked on every response beside the schemas.

Known gaps of v1.19's own data, so that nobody wonders twice (CHECKLIST section 27):
- `device_unused_fallback_key_types` of /sync and `guest_access_token` of /register stand in prose only;
- /sync's example shows one event ID twice in a timeline; a nested example of /thirdparty/protocols lacks `icon`;
- `{"errcode"}` alone satisfies the error schema, the prose wants `error` too (API-01 is checked here);
- a state event satisfies both branches of the `oneOf` of GET .../state/{eventType}/{stateKey} (AMENDMENTS);
- a 401 of an endpoint with interactive authentication is documented as the question only, never as a refused token.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tests.support.spec_routes import RouteTable

if TYPE_CHECKING:
    from tests.support.spec import Exchange

# Fields of the federation's event format that no client may see. spec: client-server-api/#room-event-format (FILT-06)
FEDERATION_FIELDS = frozenset(
    {"auth_events", "prev_events", "hashes", "signatures", "depth", "origin", "prev_state"}
)

_ERRCODE = re.compile(r"^[A-Z0-9_.]+$")
_JSON_PATHS = re.compile(r"^/_matrix/(?:client|federation|key|media)/|^/_synapse/")

_FILES = (
    "getContent",
    "getContentOverrideName",
    "getContentAuthed",
    "getContentOverrideNameAuthed",
    "getContentThumbnail",
    "getContentThumbnailAuthed",
)
HTTPS_OWN: Mapping[str, tuple[int, ...]] = dict.fromkeys(_FILES, (206, 304))
"""What RFC 9110 allows beside the documented answers: a part of a file, and "you have it already"."""

Rule = Callable[["Exchange", Any], Iterator[str]]


def _members_without_names(schema: dict[str, Any]) -> dict[str, Any]:
    """A name or picture that is not set may be null, as other servers have it and clients expect it."""
    changed = copy.deepcopy(schema)
    [members] = changed["properties"]["joined"]["patternProperties"].values()
    for member in members["properties"].values():
        member["type"] = [member["type"], "null"]
    return changed


def _without_enum(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A backup comes back with the algorithm it was made with, known to the specification or not."""
    changed = copy.deepcopy(schema)
    del changed["properties"][name]["enum"]
    return changed


# (operation id, status) -> the schema as it was meant.
AMENDMENTS: dict[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("getRoomStateWithKey", "200"): lambda schema: {"anyOf": schema["oneOf"]},
    ("getJoinedMembersByRoom", "200"): _members_without_names,
    ("getRoomKeysVersion", "200"): lambda schema: _without_enum(schema, "algorithm"),
    ("getRoomKeysVersionCurrent", "200"): lambda schema: _without_enum(schema, "algorithm"),
}


class NotJSONError(ValueError):
    """Bytes that are no strict JSON in UTF-8: NaN, bad UTF-8 and lone surrogates are among them."""


def parse_json(body: bytes) -> Any:
    """The body as values; raises NotJSONError."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJSONError(str(error)) from error


def broken(exchange: "Exchange") -> list[str]:
    """The prose rules this answer breaks, in words."""
    if not _JSON_PATHS.match(exchange.path) or exchange.method in ("OPTIONS", "HEAD"):
        return []
    found = list(_headers(exchange))
    if exchange.content_type != "application/json":
        if exchange.status >= 400:
            found.append(
                f"API-01/API-04: a {exchange.status} with {exchange.content_type or 'no content type'}, not JSON"
            )
        return found
    try:
        body = parse_json(exchange.body)
    except NotJSONError as error:
        return [*found, f"API-04: the body is not strict JSON in UTF-8: {error}"]
    if exchange.status >= 400:
        found.extend(_error(exchange, body))
    elif exchange.status == 200 and isinstance(body, dict):
        for rule in _ROUTES.find(exchange.method, exchange.path):
            found.extend(rule(exchange, body))
    return found


def _headers(exchange: "Exchange") -> Iterator[str]:
    """API-07 and API-08. spec: client-server-api/#web-browser-clients, #rate-limiting"""
    if exchange.path.startswith(("/_matrix/client/", "/_matrix/media/")):
        allowed = exchange.headers.get("access-control-allow-origin")
        if exchange.headers.keys() - {"content-type"} and allowed != "*":
            yield f"API-07: Access-Control-Allow-Origin is {allowed!r}, not '*'"
    if exchange.status == 429 and not exchange.headers.get("retry-after", "").isdigit():
        yield "API-08: a 429 without Retry-After in seconds"


def _error(exchange: "Exchange", body: Any) -> Iterator[str]:
    """API-01, with the one exception of the request for user-interactive authentication (AUTH-02)."""
    if not isinstance(body, dict):
        yield f"API-01: a {exchange.status} whose body is no object"
        return
    if exchange.status == 401 and "flows" in body and "errcode" not in body:
        if not isinstance(body.get("session"), str):
            yield "AUTH-02: user-interactive authentication without a session"
        return
    code = body.get("errcode")
    if not isinstance(code, str) or not _ERRCODE.match(code):
        yield f"API-01: a {exchange.status} with errcode {code!r}"
    if not isinstance(body.get("error"), str) or not body["error"]:
        yield f"API-01: a {exchange.status} {code} without a sentence in `error`"
    if code == "M_LIMIT_EXCEEDED" and exchange.status != 429:
        yield f"API-08: M_LIMIT_EXCEEDED as {exchange.status}"


def _sync(exchange: "Exchange", body: Mapping[str, Any]) -> Iterator[str]:
    """spec: client-server-api/#get_matrixclientv3sync"""
    # documented in the prose of "Extensions to /sync" (SYNC-21), missing from the schema
    kinds = body.get("device_unused_fallback_key_types")
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        yield f"SYNC-21: device_unused_fallback_key_types is {kinds!r}"
    if not body.get("next_batch"):
        yield "SYNC-02: no next_batch"
    rooms = body.get("rooms") or {}
    for section in ("join", "leave"):
        for room_id, room in (rooms.get(section) or {}).items():
            yield from _sync_room(exchange, room, f"rooms.{section}.{room_id}")
    for section, key in (("invite", "invite_state"), ("knock", "knock_state")):
        for room_id, room in (rooms.get(section) or {}).items():
            yield from _stripped((room.get(key) or {}).get("events") or (), f"rooms.{section}.{room_id}")


def _sync_room(exchange: "Exchange", room: Mapping[str, Any], where: str) -> Iterator[str]:
    after = _asks_for_state_after(exchange)
    if after and "state" in room:
        yield f"SYNC-06: {where} has `state` although state_after was asked for"
    if after and not {"state_after", "org.matrix.msc4222.state_after"} & room.keys():
        yield f"SYNC-06: {where} lacks `state_after`"
    if not after and "state_after" in room:
        yield f"SYNC-06: {where} has `state_after` although nobody asked"
    timeline = (room.get("timeline") or {}).get("events") or []
    ids = [event["event_id"] for event in timeline if isinstance(event, dict) and "event_id" in event]
    if len(ids) != len(set(ids)):
        yield f"SYNC-04: {where} shows an event twice in one timeline"
    if (room.get("timeline") or {}).get("limited") and "prev_batch" not in room["timeline"]:
        yield f"SYNC-04: {where} has a limited timeline without prev_batch"
    if _asks_for_federation_format(exchange):
        return
    for part in ("timeline", "state", "state_after"):
        for event in (room.get(part) or {}).get("events") or ():
            yield from _client_event(event, f"{where}.{part}")
            if isinstance(event, dict) and "room_id" in event:
                yield f"FILT-10: {where}.{part} repeats room_id in {event.get('event_id')}"


def _asks_for_state_after(exchange: "Exchange") -> bool:
    return "true" in (
        exchange.query.get("use_state_after"),
        exchange.query.get("org.matrix.msc4222.use_state_after"),
    )


def _asks_for_federation_format(exchange: "Exchange") -> bool:
    """Only the filter can; what a filter ID stands for is not known here, so any ID is given the benefit of the doubt."""
    asked = exchange.query.get("filter", "")
    return bool(asked) and (not asked.startswith("{") or "federation" in asked)


def _client_event(event: Any, where: str) -> Iterator[str]:
    if isinstance(event, dict) and (seen := FEDERATION_FIELDS & event.keys()):
        yield f"FILT-06: {where} shows {', '.join(sorted(seen))} of {event.get('event_id')}"


def _stripped(events: Any, where: str) -> Iterator[str]:
    """FILT-08. spec: client-server-api/#stripped-state. The client's own member event may come whole (practice)."""
    for event in events:
        if isinstance(event, dict) and FEDERATION_FIELDS & event.keys():
            yield f"FILT-08: {where} shows more than stripped state"


def _chunk(exchange: "Exchange", body: Mapping[str, Any]) -> Iterator[str]:
    if _asks_for_federation_format(exchange):
        return
    for key in ("chunk", "state", "events_before", "events_after"):
        value = body.get(key)
        for event in value if isinstance(value, list) else ():
            yield from _client_event(event, key)


def _event(exchange: "Exchange", body: Mapping[str, Any]) -> Iterator[str]:
    del exchange
    yield from _client_event(body, "the event")


def _state(exchange: "Exchange", body: Mapping[str, Any]) -> Iterator[str]:
    """ROOM-21. spec: client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey"""
    whole = {"type", "state_key", "sender", "event_id", "room_id", "origin_server_ts", "content"}
    if exchange.query.get("format") == "event":
        if missing := whole - body.keys():
            yield f"ROOM-21: the whole event was asked for, {', '.join(sorted(missing))} are missing"
        yield from _client_event(body, "the event")


_ROUTES: RouteTable[Rule] = RouteTable(
    ("GET", "/_matrix/client/" + path, rule)
    for path, rule in (
        ("v3/sync", _sync),
        ("v3/rooms/{roomId}/event/{eventId}", _event),
        ("v3/rooms/{roomId}/state/{eventType}/{stateKey}", _state),
        ("v3/rooms/{roomId}/messages", _chunk),
        ("v3/rooms/{roomId}/members", _chunk),
        ("v3/rooms/{roomId}/context/{eventId}", _chunk),
        ("v1/rooms/{roomId}/relations/{eventId}", _chunk),
        ("v1/rooms/{roomId}/relations/{eventId}/{relType}", _chunk),
        ("v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}", _chunk),
        ("v1/rooms/{roomId}/threads", _chunk),
    )
)
