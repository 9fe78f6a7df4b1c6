"""A change of a subscription as a log entry."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from homeserver.log.entries import Entry, StructSink, Written
from homeserver.storage.tx import Pipeline
from homeserver.threads import store


class ThreadSubscriptionEntry(Entry, frozen=True):
    """A user subscribes to a thread, or no longer does."""

    user_nid: int
    room_nid: int
    thread: str
    """Event id of its root."""
    subscribed: bool
    automatic: bool = False


class ThreadSubscriptionSink(StructSink[ThreadSubscriptionEntry]):
    """Into `thread_subscriptions`."""

    kind = "thread_subscription"
    entry_type = ThreadSubscriptionEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[ThreadSubscriptionEntry]]) -> None:
        last = {(entry.user_nid, entry.thread): (at, entry) for at, entry in written}
        store.put(
            batch,
            [
                (each.user_nid, each.thread, each.room_nid, each.subscribed, each.automatic, at)
                for at, each in last.values()
            ],
        )
