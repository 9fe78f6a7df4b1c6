"""Endpoints of delayed events.

spec: MSC4140
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from homeserver.delayed.service import DelayedEvents
from homeserver.delayed.types import Listed, Status, Wanted
from homeserver.matrix import json
from homeserver.matrix.errors import MissingParam
from homeserver.matrix.ids import RoomId
from homeserver.rooms.ports import LaterEvent
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, EmptyObject, Path, Query, endpoint

UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"
EVENTS = UNSTABLE + "/delayed_events"


class DelayedRequest(msgspec.Struct):
    """An event, and when: in ms, `delay` is the name that clients of 2025 and before use."""

    content: dict[str, Any]
    delay_ms: int | None = None
    delay: int | None = None
    state_key: str | None = None


class DelayId(msgspec.Struct):
    """Which event that is sent later."""

    delay_id: str


class Change(msgspec.Struct):
    """What is to become of one."""

    action: Literal["restart", "send", "cancel"]


class DelayedApi:
    """Scheduling and managing delayed events."""

    def __init__(self, events: DelayedEvents) -> None:
        self._events = events

    @endpoint(
        "scheduleDelayedEvent",
        "PUT",
        UNSTABLE + "/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
        auth=Auth.GUEST_ALLOWED,
        limit="message",
    )
    async def schedule(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        txn_id: Path[str],
        body: Body[DelayedRequest],
        ts: Query[int | None] = None,
    ) -> DelayId:
        """Has an event sent later, once per transaction id."""
        delay_ms = body.delay if body.delay_ms is None else body.delay_ms
        if delay_ms is None:
            raise MissingParam("delay_ms is missing")
        later = LaterEvent(room_id, event_type, body.state_key, body.content, delay_ms, txn_id, ts)
        return DelayId(await self._events.schedule(requester, later))

    # An id cannot be guessed, and whoever was given one (the server of a call) may do this: nobody has to be logged in.
    @endpoint("changeDelayedEvent", "POST", EVENTS + "/{delayId}", auth=Auth.NONE, limit="delayed")
    async def change(self, delay_id: Path[str], body: Body[Change]) -> EmptyObject:
        """Restarts, sends or cancels a delayed event; as clients before the three paths did."""
        return await self._change(delay_id, body.action)

    @endpoint("restartDelayedEvent", "POST", EVENTS + "/{delayId}/restart", auth=Auth.NONE, limit="delayed")
    async def restart(self, delay_id: Path[str]) -> EmptyObject:
        """Begins the delay anew."""
        return await self._change(delay_id, "restart")

    @endpoint("sendDelayedEvent", "POST", EVENTS + "/{delayId}/send", auth=Auth.NONE, limit="delayed")
    async def send(self, delay_id: Path[str]) -> EmptyObject:
        """Sends it now."""
        return await self._change(delay_id, "send")

    @endpoint("cancelDelayedEvent", "POST", EVENTS + "/{delayId}/cancel", auth=Auth.NONE, limit="delayed")
    async def cancel(self, delay_id: Path[str]) -> EmptyObject:
        """Never sends it."""
        return await self._change(delay_id, "cancel")

    async def _change(self, delay_id: str, action: Literal["restart", "send", "cancel"]) -> EmptyObject:
        acts = {"restart": self._events.restart, "send": self._events.send, "cancel": self._events.cancel}
        await acts[action](delay_id)
        return EmptyObject()

    @endpoint("getDelayedEvents", "GET", EVENTS, auth=Auth.GUEST_ALLOWED)
    async def page(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        status: Query[Status | None] = None,
        delay_id: Query[list[str]] = [],  # noqa: B006  # never changed
        room_id: Query[RoomId | None] = None,
        type_: Query[str | None] = None,
        from_: Query[str | None] = None,
        dir_: Query[Literal["f", "b"]] = "f",
    ) -> dict[str, Any]:
        """Lists one's own, in the order in which they are due; under the names that clients look for.

        Without parameters: all that are scheduled, as the newest text of MSC4140 has it, which knows no pages. Those of the
        texts before it ask for pages, and for what has ended.
        """
        backwards = dir_ == "b"
        wanted = Wanted(status, delay_id or None, room_id, type_)
        if wanted == Wanted() and from_ is None and not backwards:
            scheduled = [_shown(each) for each in await self._events.scheduled(requester)]
            return {"delayed_events": scheduled, "scheduled": scheduled, "finalised": []}
        found, following = await self._events.page(requester, wanted, from_, backwards=backwards)
        listed = [(each.finalised_ms is not None, _shown(each)) for each in found]
        answer: dict[str, Any] = {"delayed_events": [shown for _, shown in listed]}
        if status != "finalised":
            answer["scheduled"] = [shown for is_finalised, shown in listed if not is_finalised]
        if status != "scheduled":
            answer["finalised"] = [shown for is_finalised, shown in listed if is_finalised]
        if following is not None:
            answer["prev_batch" if backwards else "next_batch"] = following
        return answer

    @endpoint("getDelayedEvent", "GET", EVENTS + "/{delayId}", auth=Auth.GUEST_ALLOWED)
    async def one(self, requester: Requester, delay_id: Path[str]) -> dict[str, Any]:
        """Shows one of one's own."""
        return _shown(await self._events.one(requester, delay_id))


def _shown(each: Listed) -> dict[str, Any]:
    """Under the names of the newest text, and those that texts before July 2026 and clients of them have."""
    shown: dict[str, Any] = {
        "delay_id": each.delay_id,
        "room_id": each.room_id,
        "type": each.type,
        "delay_ms": each.delay_ms,
        "delay": each.delay_ms,
        "scheduled_at": each.since_ms,
        "running_since": each.since_ms,
        "content": json.loads(each.content),
    }
    if each.state_key is not None:
        shown["state_key"] = each.state_key
    if each.finalised_ms is not None:
        shown["finalised_ts"] = shown["origin_server_ts"] = each.finalised_ms
        shown["outcome"] = "send" if each.event_id else "cancel"
        shown["reason"] = "error" if each.error else "action" if each.by_action else "delay"
    if each.event_id is not None:
        shown["event_id"] = each.event_id
    if each.error is not None:
        shown["error"] = json.loads(each.error)
    return shown
