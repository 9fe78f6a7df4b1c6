"""Who could replace a room can replace its successor, and nobody else, whatever versions they have (ROOM-25, ROOM-26)."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from homeserver.events.content.power_levels import BadLevel, PowerLevels
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.rooms.transferred_power import MAX_LEVEL, Successor, transferred

UPGRADER, ANNA, BERT, CARL, NOBODY = (f"@{name}:localhost" for name in ("up", "anna", "bert", "carl", "none"))
EVERYBODY = (UPGRADER, ANNA, BERT, CARL, NOBODY)
TOMBSTONE = "m.room.tombstone"

versions = st.sampled_from(list(ROOM_VERSIONS.values()))
levels = st.sampled_from([-MAX_LEVEL, -1, 0, 1, 49, 50, 51, 99, 100, 149, 150, 151, MAX_LEVEL - 1, MAX_LEVEL])
old_levels = levels | st.sampled_from(["50", " +100 ", "-1", "many", None, True, str(2**70), str(-(2**70))])


@st.composite
def rooms(draw: st.DrawFn) -> tuple[PowerLevels, Successor]:
    before, after = draw(versions), draw(versions)
    wild = before.string_power_levels and draw(st.booleans())
    level = old_levels if wild else levels
    named = ["users_default", "state_default", "events_default", "ban", "kick", "redact", "invite"]
    content: dict[str, Any] = {name: draw(level) for name in named if draw(st.booleans())}
    creators = {draw(st.sampled_from([UPGRADER, ANNA]))}
    if before.privileged_creators:
        creators |= draw(st.sets(st.sampled_from([ANNA, BERT])))
    if draw(st.booleans()):
        # rule 10: what is no level never stands here
        users = draw(st.dictionaries(st.sampled_from(EVERYBODY[:4]), levels | st.sampled_from([str(2**70)])))
        kept = {user: value for user, value in users.items() if wild or not isinstance(value, str)}
        content["users"] = {
            user: value
            for user, value in kept.items()
            if not before.privileged_creators or user not in creators
        }
    if draw(st.booleans()):
        kinds = st.sampled_from([TOMBSTONE, "m.room.name", "m.room.power_levels"])
        content["events"] = draw(st.dictionaries(kinds, level))
    if draw(st.booleans()):
        content["notifications"] = {"room": draw(level)}
    named_creators = draw(st.sets(st.sampled_from([BERT, CARL]))) if after.privileged_creators else set()
    return PowerLevels(content, before, frozenset(creators)), Successor(after, {UPGRADER, *named_creators})


def can_replace(of: PowerLevels, user: str) -> bool:
    try:
        return of.user_level(user) >= of.event_level(TOMBSTONE, state=True)
    except BadLevel:
        return False


def room(before: str, after: str, content: dict[str, Any], *creators: str) -> tuple[PowerLevels, Successor]:
    return PowerLevels(content, ROOM_VERSIONS[before], frozenset(creators)), Successor(
        ROOM_VERSIONS[after], {UPGRADER}
    )


def new_levels(content: dict[str, Any], after: Successor) -> PowerLevels:
    creators = after.creators if after.version.privileged_creators else ()
    return PowerLevels(content, after.version, frozenset(creators))


@settings(max_examples=600)
@given(rooms())
@example(room("12", "11", {"events": {TOMBSTONE: 150}}, UPGRADER, ANNA))
@example(room("12", "12", {"events": {TOMBSTONE: MAX_LEVEL}}, UPGRADER, ANNA))
@example(room("11", "12", {"users": {UPGRADER: 100, ANNA: 100}, "events": {TOMBSTONE: 100}}, UPGRADER))
@example(room("9", "10", {"users": {UPGRADER: 100}, "events": {TOMBSTONE: 100, "m.room.name": "many"}}, ANNA))
def test_the_same_people_can_replace_both(case: tuple[PowerLevels, Successor]) -> None:
    before, after = case
    now = new_levels(transferred(before, after), after)
    chosen = after.creators if after.version.privileged_creators else ()
    for user in EVERYBODY:
        assert can_replace(now, user) is (can_replace(before, user) or user in chosen), user


@settings(max_examples=200)
@given(rooms())
def test_the_new_levels_are_such_as_the_version_allows(case: tuple[PowerLevels, Successor]) -> None:
    before, after = case
    content = transferred(before, after)
    assert all_integers(content, after.version)
    if after.version.privileged_creators:
        assert not set(content["users"]) & set(after.creators)


def all_integers(content: dict[str, Any], version: RoomVersion) -> bool:
    del version  # what the strictest allows, every version does
    found = [value for value in content.values() if not isinstance(value, dict)]
    found += [level for value in content.values() if isinstance(value, dict) for level in value.values()]
    return all(type(level) is int and -MAX_LEVEL <= level <= MAX_LEVEL for level in found)


@given(rooms())
def test_creators_stay_above_those_they_stood_above(case: tuple[PowerLevels, Successor]) -> None:
    before, after = case
    if not before.version.privileged_creators:
        return
    now = new_levels(transferred(before, after), after)
    for creator in before.creators:
        for other in set(EVERYBODY) - before.creators - set(after.creators):
            mine, theirs = now.user_level(creator), now.user_level(other)
            assert mine > theirs or mine == MAX_LEVEL


def test_what_is_no_matter_of_creators_stays_as_it_is() -> None:
    content = {
        "users": {ANNA: 100, BERT: 50},
        "events": {TOMBSTONE: 100, "m.room.name": 20},
        "ban": 60,
        "x": "y",
    }
    for before in ("6", "9", "11"):
        assert transferred(*room(before, "11", content, UPGRADER)) == content
