"""Events take less room in storage, and come back byte for byte."""

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from homeserver.events.builder import EventDraft, build_event
from homeserver.events.event import Event
from homeserver.events.hashing import event_id_of
from homeserver.events.packing import MARK, Opened, pack, unpack
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey

ROOM = RoomId("!" + "R" * 43)


def _id(number: int) -> EventId:
    return EventId("$" + base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("="))


def _member(name: str = "Alice Example") -> Event:
    content = {
        "membership": "join",
        "displayname": name,
        "avatar_url": "mxc://example.com/abcdefghijklmnopqrstuvwx",
    }
    return build_event(
        EventDraft("m.room.member", "@alice:example.com", UserId("@alice:example.com"), content),
        room_id=ROOM,
        room_version=ROOM_VERSIONS["12"],
        prev=[_id(2**255 + 7)],
        auth=[_id(2**254 + number) for number in range(3)],
        depth=10_000,
        origin_server_ts=1_700_000_000_000,
        server_name=ServerName("example.com"),
        signing_key=SigningKey(b"\x01" * 32, "a_1"),
    )


def test_a_membership_takes_half_the_room_and_comes_back_with_its_id() -> None:
    event = _member()
    cited = {event_id: number + 1_000_000 for number, event_id in enumerate(event.auth_event_ids)}
    persisted = pack(event.pdu, ROOM, cited)
    assert persisted[:1] == MARK
    assert len(persisted) < len(event.pdu) / 2.5
    assert Opened(persisted).cited == list(cited.values())
    again = unpack(persisted, ROOM, {number: event_id for event_id, number in cited.items()})
    assert again == event.pdu
    assert event_id_of(json.loads(again), event.room_version) == event.event_id


def test_content_can_be_read_without_what_is_cited() -> None:
    event = _member()
    persisted = pack(event.pdu, ROOM, dict.fromkeys(event.auth_event_ids, 5))
    read: dict[str, Any] = json.loads(unpack(persisted, ROOM))
    assert read["content"] == event.content
    assert read["sender"] == event.sender
    assert read["auth_events"] == ["$", "$", "$"]


def test_what_was_stored_before_is_read_as_it_is() -> None:
    pdu = _member().pdu
    assert unpack(pdu, ROOM) == pdu


_names = st.one_of(
    st.text(max_size=60),
    st.binary(min_size=32, max_size=32).map(
        lambda raw: "$" + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    ),
    st.binary(min_size=32, max_size=32).map(lambda raw: base64.b64encode(raw).decode().rstrip("=")),
    st.binary(min_size=64, max_size=64).map(lambda raw: base64.b64encode(raw).decode().rstrip("=")),
    st.text(
        "ABCabc+/-_$=!", min_size=42, max_size=45
    ),  # nearly what is looked for: not canonical base64, and the like
    st.text("ABCabc+/-_", min_size=86, max_size=87),
    st.just(str(ROOM)),
    st.integers(0, 5).map(_id),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _names,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(_names, inner, max_size=6),
    max_leaves=25,
)


@given(_json, st.integers(0, 2**60), st.booleans())
def test_anything_comes_back_byte_for_byte(value: Any, offset: int, escaped: bool) -> None:
    pdu = json.dumps({"x": value}, ensure_ascii=escaped, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    cited = {_id(number): offset + number for number in range(5)}
    persisted = pack(pdu, ROOM, cited)
    assert unpack(persisted, ROOM, {number: event_id for event_id, number in cited.items()}) == pdu
    assert persisted == pdu or set(Opened(persisted).cited) <= set(cited.values())


@given(st.binary(max_size=300))
def test_what_is_no_json_comes_back_too(data: bytes) -> None:
    pdu = b"{" + data
    assert unpack(pack(pdu, ROOM, {}), ROOM) == pdu
