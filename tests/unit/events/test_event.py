"""An event decodes what it is asked for, when it is asked."""

import copy
import pickle

import pytest

from homeserver.events.event import Event
from homeserver.events.parse import event_from_storage
from homeserver.matrix.ids import EventId, RoomId
from tests.support import pdus


def _persisted(event: Event) -> Event:
    return event_from_storage(event.pdu, event.event_id, event.room_id, event.room_version)


@pytest.mark.parametrize("version_id", pdus.VERSIONS)
def test_the_header_of_a_stored_event(version_id: str) -> None:
    event = _persisted(pdus.event(version_id, "m.room.member", {"membership": "join"}, state_key=pdus.ALICE))
    names = {"A": event.prev_event_ids, "B": event.auth_event_ids}
    for name, ids in names.items():
        reference = pdus.reference(event.room_version, name)
        assert ids == (reference if isinstance(reference, str) else reference[0],)
    assert (event.type, event.state_key, event.sender) == ("m.room.member", pdus.ALICE, pdus.ALICE)
    assert (event.depth, event.origin_server_ts) == (7, pdus.START_MS)
    assert event.key == ("m.room.member", pdus.ALICE)
    assert event.is_state
    assert event.membership == "join"
    assert event.content_json == b'{"membership":"join"}'
    assert event.fields["content"] == event.content == {"membership": "join"}


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    broken = event_from_storage(b"not even JSON", EventId("$x"), RoomId("!r:x"), pdus.ROOM_VERSIONS["12"])
    assert broken.event_id == "$x"
    assert {broken} == {broken}
    with pytest.raises(ValueError, match=r".+"):
        _ = broken.fields


def test_a_message_has_no_key() -> None:
    event = _persisted(pdus.event("12"))
    assert (event.state_key, event.key, event.is_state, event.membership) == (None, None, False, None)
    assert repr(event) == f"<Event {event.event_id} m.room.message>"


def test_an_empty_state_key_is_one() -> None:
    event = _persisted(pdus.event("12", "m.room.topic", {"topic": "x"}, state_key=""))
    assert event.key == ("m.room.topic", "")
    assert repr(event) == f"<Event {event.event_id} m.room.topic []>"


@pytest.mark.parametrize("content", [{}, {"membership": 5}, {"membership": None}])
def test_a_membership_that_is_no_text_is_none(content: dict[str, object]) -> None:
    assert pdus.event("12", "m.room.member", content, state_key=pdus.ALICE).membership is None


@pytest.mark.parametrize("version_id", pdus.VERSIONS)
def test_evt_01_the_target_of_a_redaction_is_found_where_the_version_writes_it(version_id: str) -> None:
    target = EventId("$target:one.example")
    event = _persisted(pdus.event(version_id, "m.room.redaction", {"reason": "x"}, redacts=target))
    assert event.redacts == target
    in_content = event.room_version.redacts_in_content
    assert ("redacts" in event.content, "redacts" in event.fields) == (in_content, not in_content)


def test_only_redactions_redact() -> None:
    assert pdus.event("12", content={"redacts": "$x", "msgtype": "m.text", "body": ""}).redacts is None
    assert pdus.event("12", "m.room.redaction", {"redacts": 5}).redacts is None


def test_events_are_equal_by_their_id() -> None:
    one, other = pdus.event("12"), pdus.event("12", content={"msgtype": "m.text", "body": "other"})
    assert one == _persisted(one) != other
    assert len({one, _persisted(one), other}) == 2
    assert one != one.event_id


def test_events_can_be_sent_to_another_process() -> None:
    event = _persisted(pdus.event("12"))
    for again in (pickle.loads(pickle.dumps(event)), copy.copy(event)):
        assert (again, again.pdu, again.content) == (event, event.pdu, event.content)


def test_an_unknown_attribute_is_an_error() -> None:
    with pytest.raises(AttributeError):
        getattr(pdus.event("12"), "no_such_thing")  # noqa: B009  # the type checker knows it is not there
