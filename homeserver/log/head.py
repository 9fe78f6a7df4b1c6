"""The lock on the head of the log, for what must not be written by two at once and is no entry."""

from __future__ import annotations

from homeserver.log import store
from homeserver.storage.tx import Pipeline


def lock(batch: Pipeline) -> None:
    """Until the transaction ends nobody else writes to the log, or holds this lock."""
    store.lock_head(batch)
