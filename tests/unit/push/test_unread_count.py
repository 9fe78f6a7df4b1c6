"""An unread count moves on by what happens: SYNC-11, SYNC-12, PUSH-14, MSC2654."""

import json
from types import SimpleNamespace
from typing import Any

from homeserver.events.push_facts import BODY, EDIT, MEMBER, MESSAGE, NOTICE, ROOM_MENTION, Facts
from homeserver.log.entries import Written
from homeserver.matrix.glob import WorkBudget
from homeserver.push.evaluator import Evaluator
from homeserver.push.evaluators import DEFAULT_EVALUATOR
from homeserver.push.unread_count import UNREAD_COUNT, Reading, UnreadCount, delta_of
from homeserver.receipts.types import UNTHREADED

ME, OTHER = 1, 2
READING = Reading(ME, frozenset(), DEFAULT_EVALUATOR, None, WorkBudget(0))


def said(position: int, thread: str | None = None, *, by: int = OTHER, **more: Any) -> Written[Any]:
    """A message; `more`: what else there is of it."""
    facts = Facts(more.pop("bits", MESSAGE), thread, more.pop("mentions", ()))  # type: ignore[arg-type]  # a NewType
    persisted = SimpleNamespace(
        facts=facts,
        flags=more.pop("flags", 0),
        redaction=more.pop("redaction", None),
        sender_nid=by,
        event=None,
    )
    entry = SimpleNamespace(
        persisted=persisted, redacts=more.pop("redacts", None), changes=more.pop("changes", ())
    )
    return Written(position, entry)  # type: ignore[type-var]  # a stand-in


def counted(*events: Written[Any]) -> UnreadCount:
    unread = UnreadCount(0, 0)
    assert unread.move(events, READING)
    return unread


def told(unread: UnreadCount) -> dict[str, tuple[int, int]]:
    """Thread, or "" for the room -> notifications and highlights, as a client that asks for threads is told."""
    members = {name: json.loads(value) for name, value in unread.members(per_thread=True).items()}
    counts = {"": members["unread_notifications"], **members.get("unread_thread_notifications", {})}
    return {name: (each["notification_count"], each["highlight_count"]) for name, each in counts.items()}


def test_events_of_others_count_in_their_thread() -> None:
    unread = counted(said(1), said(2, "$t"), said(3, "$t", mentions=(ME,)), said(4, by=ME, bits=MEMBER))
    assert told(unread) == {"": (1, 0), "$t": (2, 1)}
    assert unread.position == 4
    whole = json.loads(unread.members(per_thread=False)["unread_notifications"])
    assert whole == {"notification_count": 3, "highlight_count": 1}


def test_what_is_hidden_or_redacted_does_not_count() -> None:
    assert told(counted(said(1, flags=1), said(2, redaction=object()))) == {"": (0, 0)}


def test_one_s_own_event_reads_its_thread() -> None:
    assert told(counted(said(1), said(2, "$t"), said(3, by=ME))) == {"": (0, 0), "$t": (1, 0)}
    assert told(counted(said(1), said(2, "$t"), said(3, "$t", by=ME))) == {"": (1, 0)}


def test_receipts_read_threads() -> None:
    unread = counted(said(1), said(2, "$t"), said(3, "$u"))
    assert unread.read("$t", 2)
    assert told(unread) == {"": (1, 0), "$u": (1, 0)}
    assert unread.read(UNTHREADED, 3)
    assert told(unread) == {"": (0, 0)}


def test_a_receipt_in_the_middle_makes_it_stale() -> None:
    assert not counted(said(1), said(2)).read("main", 1)
    assert not counted(said(1), said(2, "$t")).read(UNTHREADED, 1)
    assert counted(said(1), said(2, "$t")).read("main", 1), "the thread is not concerned"


def test_a_receipt_may_come_before_what_it_reads() -> None:
    unread = UnreadCount(0, 0)
    assert unread.read("main", 2)
    assert unread.move([said(1), said(2), said(3), said(4, "$t")], READING)
    assert told(unread) == {"": (1, 0), "$t": (1, 0)}


def test_a_redaction_makes_it_stale_if_anything_counts() -> None:
    assert not counted(said(1)).move([said(2, redacts=object(), by=ME)], READING)
    assert UnreadCount(0, 0).move([said(2, redacts=object())], READING)


def test_one_s_own_coming_and_going_makes_it_stale() -> None:
    change = SimpleNamespace(user_nid=ME)
    assert not UnreadCount(0, 0).move([said(1, by=OTHER, bits=MEMBER, changes=(change,))], READING)


def marked(unread: UnreadCount, *, per_thread: bool = False) -> int:
    """How many events mark the room as unread."""
    return int(unread.members(per_thread=per_thread)[UNREAD_COUNT])


def test_what_does_not_notify_marks_a_muted_room_as_unread() -> None:
    """Notices, edits, one's own and redacted events do not. spec: MSC2654"""
    text = MESSAGE | BODY
    muted = READING._replace(evaluator=Evaluator(()))
    events = [
        said(1, bits=text),
        said(2, bits=text | NOTICE),
        said(3, bits=text | EDIT),
        said(4, "$t", bits=text),
        said(5, bits=text, redaction=object()),
    ]
    unread, delta = UnreadCount(0, 0), delta_of(events[:4], muted.evaluator)
    assert unread.move(events, muted)
    assert (told(unread), marked(unread), marked(unread, per_thread=True)) == ({"": (0, 0)}, 2, 1)
    assert delta is not None
    at_once = UnreadCount(0, 0)
    assert at_once.apply(delta, muted)
    assert (marked(at_once), marked(at_once, per_thread=True)) == (2, 1)
    assert unread.read(UNTHREADED, 4)
    assert marked(unread) == 0
    assert unread.move([said(6, bits=text)], muted)
    assert unread.move([said(7, by=ME, bits=text)], muted)
    assert marked(unread) == 0


def test_a_slice_that_is_the_same_for_many_is_applied_at_once() -> None:
    """As event by event; but not for who said something in it, is meant, has read ahead or ignores somebody."""
    events = [said(1), said(2, "$t"), said(3, bits=ROOM_MENTION | MESSAGE), said(4, by=9, mentions=(8,))]
    delta = delta_of(events, DEFAULT_EVALUATOR)
    assert delta is not None
    unread = UnreadCount(0, 0)
    assert unread.apply(delta, READING)
    assert (told(unread), unread.position) == (told(counted(*events)), 4)
    for somebody in (OTHER, 9, 8):
        assert not UnreadCount(0, 0).apply(delta, READING._replace(user_nid=somebody))
    assert not UnreadCount(0, 0).apply(delta, READING._replace(ignored=frozenset({"@x:y"})))
    ahead = UnreadCount(0, 0)
    ahead.read("main", 2)
    assert not ahead.apply(delta, READING)
    assert delta_of([said(1), said(2, redacts=object())], DEFAULT_EVALUATOR) is None
