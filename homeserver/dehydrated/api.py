"""Endpoints of dehydrated devices (MSC3814, unstable)."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.dehydrated.service import DehydratedService, NewDehydrated
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.response import RawJson

DEVICE = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
MAX_BODY = 2 * 2**20


class DeviceBody(msgspec.Struct):
    """A device to be kept."""

    device_id: str
    device_data: dict[str, Any]
    device_keys: dict[str, Any]
    initial_device_display_name: str | None = None
    one_time_keys: dict[str, Any] = {}
    fallback_keys: dict[str, Any] = {}


class DeviceId(msgspec.Struct):
    """Which device."""

    device_id: str


class DeviceData(msgspec.Struct):
    """The device as it was put."""

    device_id: str
    device_data: msgspec.Raw


class EventsBody(msgspec.Struct):
    """From where to go on."""

    next_batch: str | None = None


class DehydratedApi:
    """One's own dehydrated device."""

    def __init__(self, dehydrated: DehydratedService) -> None:
        self._dehydrated = dehydrated

    @endpoint("putDehydratedDevice", "PUT", DEVICE, auth=Auth.USER, when_suspended=True, max_body=MAX_BODY)
    async def put(self, requester: Requester, body: Body[DeviceBody]) -> DeviceId:
        """Keeps a device, in place of the one that was kept before."""
        new = NewDehydrated(
            body.device_id,
            body.device_data,
            body.initial_device_display_name,
            body.device_keys,
            body.one_time_keys,
            body.fallback_keys,
        )
        await self._dehydrated.put(requester.user_nid, requester.user_id, new)
        return DeviceId(body.device_id)

    @endpoint("getDehydratedDevice", "GET", DEVICE, auth=Auth.USER)
    async def get(self, requester: Requester) -> DeviceData:
        """Gives the device back; it stays."""
        row = await self._dehydrated.get(requester.user_nid)
        return DeviceData(row.device_id, msgspec.Raw(row.data))

    @endpoint("deleteDehydratedDevice", "DELETE", DEVICE, auth=Auth.USER, when_suspended=True)
    async def delete(self, requester: Requester) -> DeviceId:
        """Ends the device, with its keys and messages."""
        return DeviceId(await self._dehydrated.delete(requester.user_nid, requester.user_id))

    @endpoint(
        "getDehydratedDeviceEvents",
        "POST",
        DEVICE + "/{deviceId}/events",
        auth=Auth.USER,
        when_suspended=True,  # reading
    )
    async def events(self, requester: Requester, device_id: Path[str], body: Body[EventsBody]) -> RawJson:
        """Gives the messages sent to the device, a page at a time; they stay as long as the device."""
        return await self._page(requester, device_id, body.next_batch)

    @endpoint("getDehydratedDeviceEvents", "GET", DEVICE + "/{deviceId}/events", auth=Auth.USER)
    async def events_from(
        self, requester: Requester, device_id: Path[str], from_: Query[str | None] = None
    ) -> RawJson:
        """The same as matrix-js-sdk asks for it."""
        return await self._page(requester, device_id, from_)

    async def _page(self, requester: Requester, device_id: str, after: str | None) -> RawJson:
        messages, last = await self._dehydrated.events(requester.user_nid, device_id, after)
        # Clients read on until a page is empty, or until there is no token: an empty page carries none.
        token = b',"next_batch":"d%d"' % last if messages else b""
        return RawJson(b'{"events":[%b]%b}' % (b",".join(messages), token))
