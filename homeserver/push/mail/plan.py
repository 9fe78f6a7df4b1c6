"""When a letter is due, and what becomes of the pauses of its rooms. Pure.

Something is a reason for a letter when it has been unread for `delay`, and its room was in none for the room's pause. The letter
tells of everything that is new, of all rooms. A room's pause grows with each letter that it was a reason for, and is over when
what letters have told of it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from homeserver.log.entries import Position
from homeserver.push.mail.types import MailSettings, RoomTold

GROWTH: Final = 6
LONGEST_PAUSE_MS: Final = 24 * 3_600_000
HOUR_MS: Final = 3_600_000
MAX_PER_HOUR: Final = 6
"""Letters to an address."""


class NewEvent(NamedTuple):
    """Something unread that no letter has told of."""

    room_nid: int
    position: Position
    sent_ms: int
    """When it was sent, as its server says."""


class Decision(NamedTuple):
    """What is to be done."""

    send: bool
    wait_ms: int
    """How long until it may be due, if it is not."""
    rooms: Sequence[RoomTold]
    """What is to be noted of the rooms when the letter is sent."""


def decide(
    new: Sequence[NewEvent],
    told: Mapping[int, RoomTold],
    seen_upto: Position,
    now_ms: int,
    settings: MailSettings,
    *,
    begun: bool = False,
) -> Decision:
    """`new`: at least one. `told`: by room_nid, those of which something is unread that was told. `seen_upto`: what came up to
    here was unread at an earlier look, and has waited long enough whatever its time says. `begun`: the letter was decided on
    before, and is sent now whatever the time.
    """
    delay_ms = round(settings.delay * 1000)
    due: dict[int, int] = {}
    newest: dict[int, Position] = {}
    for each in new:
        old = each.position <= seen_upto
        at = now_ms if old else min(each.sent_ms, now_ms) + delay_ms
        room = told.get(each.room_nid)
        if room is not None:
            # A clock that was set back must not silence a room for longer than its pause.
            at = max(at, min(room.sent_ms, now_ms) + room.pause_ms)
        due[each.room_nid] = min(at, due.get(each.room_nid, at))
        newest[each.room_nid] = max(each.position, newest.get(each.room_nid, 0))
    first = min(due.values())
    if first > now_ms and not begun:
        return Decision(False, first - now_ms, ())
    first_pause = round(settings.pause * 1000)
    rooms: list[RoomTold] = []
    for nid, upto in newest.items():
        room = told.get(nid)
        pause = first_pause if room is None else room.pause_ms
        if room is not None and due[nid] <= now_ms:
            pause = min(pause * GROWTH, max(LONGEST_PAUSE_MS, first_pause))
        rooms.append(RoomTold(nid, upto, now_ms, pause))
    return Decision(True, 0, rooms)


def letters_of_hour(hour_ms: int, letters: int, now_ms: int) -> tuple[int, int]:
    """(when the hour began that counts now, letters in it so far)."""
    return (hour_ms, letters) if 0 <= now_ms - hour_ms < HOUR_MS else (now_ms, 0)
