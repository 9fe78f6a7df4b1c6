"""What a gateway is told: the body of a notification.

spec: push-gateway-api/ op:notify (PUSH-10)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix import json
from homeserver.push.pushers.badges import Badge
from homeserver.push.pushers.types import Pusher

MAX_CONTENT: Final = 16 * 1024
"""Bytes of an event's content; a larger one is left out, as the specification allows."""
MAX_NAME: Final = 255
_NAMES: Final[Mapping[str, tuple[StateKey, str]]] = {
    "room_name": (("m.room.name", ""), "name"),
    "room_alias": (("m.room.canonical_alias", ""), "alias"),
}


class Told(NamedTuple):
    """An event of which a user is notified."""

    persisted: PersistedEvent
    actions: Sequence[Any]
    """Of the rule that it met."""


def tweaks_of(actions: Sequence[Any]) -> dict[str, Any]:
    """spec: client-server-api/#actions (PUSH-10)"""
    return {
        str(action["set_tweak"]): action.get("value", True)
        for action in actions
        if isinstance(action, Mapping) and isinstance(action.get("set_tweak"), str)
    }


def is_urgent(persisted: PersistedEvent, tweaks: Mapping[str, Any]) -> bool:
    """Whether a phone has to wake up: what makes a sound or highlights, and what may do so once it is decrypted."""
    return (
        persisted.event.type == "m.room.encrypted"
        or bool(tweaks.get("sound"))
        or bool(tweaks.get("highlight"))
    )


def groups(pushers: Sequence[Pusher]) -> list[list[Pusher]]:
    """Pushers of a user at one gateway that one notification may be for.

    Gateways whose pushkeys are URLs (those of UnifiedPush, ntfy) look at the first device alone.
    """
    found: dict[object, list[Pusher]] = {}
    for pusher in pushers:
        alone = pusher.pushkey.startswith(("https://", "http://"))
        found.setdefault(pusher[:3] if alone else pusher.event_id_only, []).append(pusher)
    return list(found.values())


def badge_body(pushers: Sequence[Pusher], unread: int) -> bytes:
    """A notification of how much is unread and nothing else. Zero is said, too: gateways take silence for "as before"."""
    return json.dumps(
        {"notification": {"counts": {"unread": unread}, "prio": "low", "devices": _devices(pushers, {})}}
    )


class Content:
    """Writes notifications. Keeps nothing."""

    def __init__(self, rooms: Rooms, events: EventCache) -> None:
        self._rooms = rooms
        self._events = events

    async def body(self, told: Told, pushers: Sequence[Pusher], badge: Badge, *, brief: bool) -> bytes:
        """For pushers of one user that have the same format. `brief`: no more than the ids, whatever they want."""
        event = told.persisted.event
        tweaks = tweaks_of(told.actions)
        notification: dict[str, Any] = {
            "event_id": event.event_id,
            "room_id": event.room_id,
            "counts": {"unread": badge.total},
            "prio": "high" if is_urgent(told.persisted, tweaks) else "low",
        }
        if brief:
            tweaks = {}
        else:
            notification |= {"type": event.type, "sender": event.sender}
            notification |= await self._names(told.persisted)
            if event.type == "m.room.member":
                notification["user_is_target"] = event.state_key == badge.user_id
            if event.type != "m.room.encrypted" and len(event.content_json) <= MAX_CONTENT:
                notification["content"] = event.content
        notification["devices"] = _devices(pushers, tweaks)
        return json.dumps({"notification": notification})

    async def _names(self, persisted: PersistedEvent) -> dict[str, str]:
        """What the room and the sender are called there."""
        room = await self._rooms.get(persisted.room_nid)
        wanted = {**_NAMES, "sender_display_name": (("m.room.member", persisted.event.sender), "displayname")}
        nids = {name: room.state[key] for name, (key, _) in wanted.items() if key in room.state}
        loaded = await self._events.load(nids.values())
        found: dict[str, str] = {}
        for name, nid in nids.items():
            value = loaded[nid].event.content.get(wanted[name][1]) if nid in loaded else None
            if isinstance(value, str) and value:
                found[name] = value[:MAX_NAME]
        return found


def _devices(pushers: Sequence[Pusher], tweaks: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "app_id": pusher.app_id,
            "pushkey": pusher.pushkey,
            "pushkey_ts": pusher.set_ms // 1000,
            "data": pusher.details.data,
            **({"tweaks": tweaks} if tweaks else {}),
        }
        for pusher in pushers
    ]
