"""When a mail about unread messages is due: PUSH-16."""

from homeserver.push.mail.plan import HOUR_MS, LONGEST_PAUSE_MS, NewEvent, decide, letters_of_hour
from homeserver.push.mail.types import MailSettings, RoomTold

SETTINGS = MailSettings(delay=600, pause=3600, content=True)
NOW = 10_000_000_000
MINUTE = 60_000


def test_something_must_be_unread_for_a_while() -> None:
    young = NewEvent(1, 100, NOW - 4 * MINUTE)
    decision = decide([young], {}, 0, NOW, SETTINGS)
    assert (decision.send, decision.wait_ms) == (False, 6 * MINUTE)
    assert decide([young], {}, 0, NOW + 6 * MINUTE, SETTINGS).send
    assert decide([young], {}, 100, NOW, SETTINGS).send, "an earlier look has seen it, whatever its time says"


def test_one_that_is_due_takes_all_along() -> None:
    old, young = NewEvent(1, 100, NOW - 11 * MINUTE), NewEvent(2, 101, NOW)
    decision = decide([young, old], {}, 0, NOW, SETTINGS)
    assert decision.send
    assert {each.room_nid: each.told_upto for each in decision.rooms} == {1: 100, 2: 101}
    assert {each.pause_ms for each in decision.rooms} == {HOUR_MS}


def test_pauses_grow_up_to_a_day() -> None:
    told = RoomTold(1, 50, NOW - HOUR_MS, HOUR_MS)
    for pause in (6 * HOUR_MS, LONGEST_PAUSE_MS, LONGEST_PAUSE_MS):
        now = told.sent_ms + told.pause_ms
        assert not decide([NewEvent(1, 100, 0)], {1: told}, 100, now - 1, SETTINGS).send
        (told,) = decide([NewEvent(1, 100, 0)], {1: told}, 100, now, SETTINGS).rooms
        assert told.pause_ms == pause


def test_a_room_that_was_no_reason_keeps_its_pause() -> None:
    told = {1: RoomTold(1, 50, NOW - MINUTE, HOUR_MS)}
    decision = decide([NewEvent(1, 100, 0), NewEvent(2, 101, 0)], told, 0, NOW, SETTINGS)
    assert {each.room_nid: each.pause_ms for each in decision.rooms} == {1: HOUR_MS, 2: HOUR_MS}


def test_clocks_of_others_neither_hurry_nor_hold_up() -> None:
    """A time in the future is now; a letter that was begun is sent; a clock of ours that was set back holds up for a pause."""
    decision = decide([NewEvent(1, 100, NOW + 10**12)], {}, 0, NOW, SETTINGS)
    assert decision.wait_ms == 10 * MINUTE
    assert decide([NewEvent(1, 100, NOW)], {}, 0, NOW, SETTINGS, begun=True).send
    ahead = RoomTold(1, 50, NOW + 10**12, HOUR_MS)
    assert decide([NewEvent(1, 100, 0)], {1: ahead}, 0, NOW, SETTINGS).wait_ms == HOUR_MS


def test_letters_are_counted_by_the_hour() -> None:
    assert letters_of_hour(NOW, 3, NOW + HOUR_MS - 1) == (NOW, 3)
    assert letters_of_hour(NOW, 3, NOW + HOUR_MS) == (NOW + HOUR_MS, 0)
    assert letters_of_hour(NOW + 10, 3, NOW) == (NOW, 0)
