"""What a redaction leaves."""

from typing import Any

import pytest

from homeserver.events.redaction import redact, redact_event
from homeserver.events.room_version import ROOM_VERSIONS
from tests.support import pdus
from tests.support.vectors import vectors

each_version = pytest.mark.parametrize("version_id", pdus.VERSIONS)


def _of(groups: dict[str, Any], version_id: str) -> Any:
    """The entry of a table keyed by ranges such as `9-10` that speaks of this version."""
    for versions, entry in groups.items():
        first, _, last = versions.partition("-")
        if int(first) <= int(version_id) <= int(last or first):
            return entry
    raise KeyError(version_id)


@each_version
def test_red_01_the_vectors_of_the_specification(version_id: str) -> None:
    for case in vectors("redaction")["cases"]:
        assert redact(case["event"], ROOM_VERSIONS[version_id]) == _of(case["redacted"], version_id), case[
            "type"
        ]


@each_version
def test_red_01_exactly_the_listed_keys_survive(version_id: str) -> None:
    given = vectors("redaction")
    version = ROOM_VERSIONS[version_id]
    top_level = _of(given["top_level_keys"], version_id)
    content_keys = _of(given["content_keys"], version_id)
    all_top_level = {key for keys in given["top_level_keys"].values() for key in keys} | {"unsigned", "other"}
    all_content = {
        key for by_type in given["content_keys"].values() for keys in by_type.values() for key in keys
    }
    for event_type in {*content_keys, "m.room.aliases", "m.room.redaction", "org.example.other"}:
        fields = {**dict.fromkeys(all_top_level, "x"), "type": event_type}
        fields["content"] = dict.fromkeys(all_content | {"other"}, 1)
        redacted = redact(fields, version)
        assert set(redacted) == set(top_level)
        kept = content_keys.get(event_type, [])
        # `third_party_invite` is kept for its `signed` alone: a value that is no object has none
        expected = (
            set(fields["content"])
            if kept == "*"
            else set(kept) - {"third_party_invite", "third_party_invite.signed"}
        )
        assert set(redacted["content"]) == expected, event_type


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"display_name": "x", "signed": {"mxid": "@a:b"}}, {"signed": {"mxid": "@a:b"}}),
        ({"display_name": "x"}, {}),
        ("x", None),
        (None, None),
    ],
)
def test_of_a_third_party_invite_only_what_was_signed_survives(given: Any, kept: Any) -> None:
    fields = {"type": "m.room.member", "content": {"membership": "invite", "third_party_invite": given}}
    expected = {"membership": "invite", **({} if kept is None else {"third_party_invite": kept})}
    assert redact(fields, ROOM_VERSIONS["11"])["content"] == expected
    assert redact(fields, ROOM_VERSIONS["10"])["content"] == {"membership": "invite"}


@each_version
def test_red_04_a_redacted_event_keeps_its_place(version_id: str) -> None:
    """RED-04: it is the same event to everybody who refers to it, and stays state."""
    event = pdus.event(
        version_id, "m.room.member", {"membership": "join", "displayname": "A"}, state_key=pdus.ALICE
    )
    redacted = redact_event(event)
    assert redacted == event
    assert redacted.content == {"membership": "join"}
    assert (redacted.key, redacted.membership, redacted.room_id) == (event.key, "join", event.room_id)
    assert redacted.fields["signatures"] == event.fields["signatures"]
    assert b"displayname" not in redacted.pdu
