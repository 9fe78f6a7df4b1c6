"""What a transaction says: events in the clients' form, ephemeral data, and what encrypted bridges need.

Stable and unstable names stand beside each other, because bridges look for one or the other: of `ephemeral` and `to_device`
(MSC2409, MSC4203), of device lists and key counts the unstable ones of MSC3202 alone, which is all there is.

spec: application-service-api/#pushing-events, #pushing-ephemeral-data (CHECKLIST AS-06, AS-08)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from appservices import store
from appservices.device_lists import NOTHING, Shared
from appservices.types import Service
from homeserver.e2ee.entries import DeviceListEntry, KeyCountEntry, KeysClaimedEntry
from homeserver.events.client_format import room_member, stripped
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent, Reader
from homeserver.graph.refs import OUTLIER
from homeserver.graph.state.states import StateStore
from homeserver.log.readers.types import Item
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.presence.types import PresenceEntry
from homeserver.receipts.types import NAMES, UNTHREADED, ReceiptEntry
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.sync.selection.stripped import SHOWN, told_elsewhere
from homeserver.to_device.entries import ToDeviceEntry
from homeserver.typing.entries import TypingEntry

NOBODY: Final = Reader(0, None)
ACTIVE_MS: Final = 60_000
MEMBER: Final = "m.room.member"
MAX_COUNTED: Final = 50
"""Devices of a service whose keys are counted in each transaction; beyond, those alone that something has happened to."""
Device = tuple[int, str]
"""(user_nid, device_id)."""


class Typists(Protocol):
    """Who types where; fulfilled by `homeserver.typing`."""

    def in_room(self, room_nid: int) -> list[str]: ...


class Counts(Protocol):
    """Keys of devices that can still be claimed; fulfilled by `homeserver.e2ee`."""

    async def of(self, user_nid: int, device_id: str) -> Mapping[str, bytes]: ...


class SharedRooms(Protocol):
    """Who has come to share encrypted rooms with a service, and who no longer does; fulfilled by `DeviceListChanges`."""

    async def of(self, service: Service, events: Iterable[PersistedEvent]) -> Shared: ...


@dataclass(slots=True)
class _Parts:
    """What items become, before they are written down."""

    events: list[bytes] = field(default_factory=list)
    typing: dict[int, None] = field(default_factory=dict)
    receipts: dict[int, dict[str, Any]] = field(default_factory=dict)
    presence: dict[int, PresenceEntry] = field(default_factory=dict)
    to_device: list[ToDeviceEntry] = field(default_factory=list)
    changed: dict[str, None] = field(default_factory=dict)
    devices: dict[Device, None] = field(default_factory=dict)
    shared: Shared = NOTHING


class Content:
    """Writes transactions down."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        interning: Interning,
        events: EventCache,
        states: StateStore,
        typists: Typists,
        counts: Counts,
        shared: SharedRooms,
        clock: Clock,
    ) -> None:
        self._db = db
        self._interning = interning
        self._events = events
        self._states = states
        self._typists = typists
        self._counts = counts
        self._shared = shared
        self._clock = clock

    async def body(self, service: Service, items: Sequence[Item[Any]]) -> bytes:
        """The transaction's JSON. What a service has not asked for is not among the items (`Interest`)."""
        parts = _Parts()
        for item in items:
            if isinstance(item.value, PersistedEvent):
                parts.events.append(await self._event(service, item.value))
            else:
                _add(parts, item.value)
        sections = [b'"events":[%b]' % b",".join(parts.events)]
        if service.ephemeral:
            sections += await self._ephemeral(parts)
        if service.encryption:
            events = [item.value for item in items if isinstance(item.value, PersistedEvent)]
            parts.shared = await self._shared.of(service, events)
            sections += await self._encryption(service, parts)
        return b"{%b}" % b",".join(sections)

    async def _event(self, service: Service, persisted: PersistedEvent) -> bytes:
        event, extra = persisted.event, b""
        if event.type == MEMBER and event.membership == "invite" and service.watches(str(event.state_key)):
            # Bridges learn from it that a room is encrypted before they are in it; Synapse tells it, too.
            extra = b',"invite_room_state":[%b]' % b",".join(await self._shown_before(persisted))
        return persisted.render(
            NOBODY, None, self._clock.now_ms(), previous=True, extra=extra, members=room_member(event.room_id)
        )

    async def _shown_before(self, invite: PersistedEvent) -> list[bytes]:
        """Stripped state of the room that an invite is for. spec: client-server-api/#stripped-state"""
        if invite.flags & OUTLIER:
            told = await told_elsewhere(self._db, [invite.nid])
            return [bytes(each) for each in told.get(invite.nid, ())]
        wanted = [*SHOWN, (MEMBER, invite.event.sender)]
        numbers = await self._interning.find_key_nids(wanted)
        before = invite.state_before.nid
        state = (await self._states.values({before}, list(numbers.values()))).get(before, {})
        loaded = await self._events.load(list(state.values()))
        found = [loaded.get(state.get(numbers.get(key, 0), 0)) for key in wanted]
        return [stripped(each.event) for each in found if each is not None]

    async def _ephemeral(self, parts: _Parts) -> list[bytes]:
        rooms = await self._interning.rooms({*parts.typing, *parts.receipts})
        told: list[bytes] = [
            _in_room("m.typing", {"user_ids": self._typists.in_room(nid)}, rooms[nid].room_id)
            for nid in parts.typing
            if nid in rooms
        ]
        told += [
            _in_room("m.receipt", content, rooms[nid].room_id)
            for nid, content in parts.receipts.items()
            if nid in rooms
        ]
        told += [json.dumps(_presence(entry, self._clock.now_ms())) for entry in parts.presence.values()]
        sections = _twice(b"ephemeral", b"de.sorunome.msc2409.ephemeral", told)
        if parts.to_device:
            names = await self._interning.user_ids({entry.user_nid for entry in parts.to_device})
            messages = [_addressed(entry, names[entry.user_nid]) for entry in parts.to_device]
            sections += _twice(b"to_device", b"de.sorunome.msc2409.to_device", messages)
        return sections

    async def _encryption(self, service: Service, parts: _Parts) -> list[bytes]:
        sections: list[bytes] = []
        changed = {**parts.changed, **dict.fromkeys(parts.shared.changed)}
        if changed or parts.shared.left:
            lists = json.dumps({"changed": list(changed), "left": list(parts.shared.left)})
            sections.append(b'"org.matrix.msc3202.device_lists":' + lists)
        # Others than those that something has happened to are told of, too: new ones upload keys when they hear that they
        # have none, and what was told while the service was away is made good.
        async with self._db.read() as tx:
            theirs = await store.find_devices(tx, service.id, service.sender, MAX_COUNTED)
        parts.devices.update(dict.fromkeys((nid, device) for nid, device in theirs))
        names = await self._interning.user_ids({nid for nid, _ in parts.devices})
        counts: dict[str, dict[str, msgspec.Raw]] = {}
        unused: dict[str, dict[str, msgspec.Raw]] = {}
        for nid, device in parts.devices:
            if service.watches(names[nid]):
                found = await self._counts.of(nid, device)
                counts.setdefault(names[nid], {})[device] = msgspec.Raw(found["device_one_time_keys_count"])
                unused.setdefault(names[nid], {})[device] = msgspec.Raw(
                    found["device_unused_fallback_key_types"]
                )
        if counts:
            sections += [
                b'"org.matrix.msc3202.device_one_time_keys_count":' + json.dumps(counts),
                b'"org.matrix.msc3202.device_one_time_key_counts":' + json.dumps(counts),
                b'"org.matrix.msc3202.device_unused_fallback_key_types":' + json.dumps(unused),
            ]
        return sections


def _add(parts: _Parts, value: Any) -> None:
    if isinstance(value, TypingEntry):
        parts.typing[value.room_nid] = None
    elif isinstance(value, ReceiptEntry):
        _add_receipt(parts.receipts.setdefault(value.room_nid, {}), value)
    elif isinstance(value, PresenceEntry):
        parts.presence[value.user_nid] = value
    elif isinstance(value, ToDeviceEntry):
        parts.to_device.append(value)
        parts.devices[value.user_nid, value.device_id] = None
    elif isinstance(value, DeviceListEntry):
        parts.changed[value.user_id] = None
    elif isinstance(value, KeyCountEntry):
        parts.devices[value.user_nid, value.device_id] = None
    elif isinstance(value, KeysClaimedEntry):
        parts.devices.update(dict.fromkeys((nid, device) for nid, device in value.devices))


def _add_receipt(content: dict[str, Any], entry: ReceiptEntry) -> None:
    seen: dict[str, Any] = {"ts": entry.ts_ms}
    if entry.thread != UNTHREADED:
        seen["thread_id"] = entry.thread
    content.setdefault(entry.event_id, {}).setdefault(NAMES[entry.type], {})[entry.user_id] = seen


def _presence(entry: PresenceEntry, now_ms: int) -> dict[str, Any]:
    ago = max(0, now_ms - entry.last_active_ms)
    content: dict[str, Any] = {"presence": entry.presence, "last_active_ago": ago}
    if entry.presence == "online":
        content["currently_active"] = ago < ACTIVE_MS
    if entry.status_msg:
        content["status_msg"] = entry.status_msg
    return {"type": "m.presence", "sender": entry.user_id, "content": content}


def _addressed(entry: ToDeviceEntry, user_id: UserId) -> bytes:
    """spec: MSC4203: with whom it is for."""
    whom = b',"to_user_id":%b,"to_device_id":%b}' % (json.dumps(user_id), json.dumps(entry.device_id))
    return entry.message[:-1] + whom


def _in_room(kind: str, content: Mapping[str, Any], room_id: str) -> bytes:
    return json.dumps({"type": kind, "room_id": room_id, "content": content})


def _twice(stable: bytes, unstable: bytes, values: Iterable[bytes]) -> list[bytes]:
    joined = b",".join(values)
    return [b'"%b":[%b]' % (name, joined) for name in (stable, unstable)] if joined else []
