"""Endpoints of devices.

spec: client-server-api/#device-management
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.devices.service import DeviceService
from homeserver.devices.types import Device
from homeserver.matrix.ids import DeviceId
from homeserver.uia.service import NOTHING_PROVED, Uia, UiaBody, uia_request
from homeserver.uia.stages import PASSWORD
from homeserver.web.auth import Requester
from homeserver.web.endpoint import Auth, Body, EmptyObject, Path, endpoint
from homeserver.web.request import RequestInfo
from homeserver.web.response import Response

_DEVICE = "/_matrix/client/{v}/devices/{deviceId}"


class Devices(msgspec.Struct):
    devices: list[Device]


class DeviceBody(msgspec.Struct):
    display_name: str | None = None


class DeleteDevicesBody(msgspec.Struct):
    devices: list[str]
    auth: dict[str, Any] | None = None


class DevicesApi:
    """One's own devices."""

    def __init__(self, devices: DeviceService, uia: Uia) -> None:
        self._devices = devices
        self._uia = uia

    @endpoint("getDevices", "GET", "/_matrix/client/{v}/devices", auth=Auth.GUEST_ALLOWED, limit="default")
    async def list_devices(self, requester: Requester) -> Devices:
        """Lists one's devices."""
        return Devices(devices=await self._devices.list_of(requester.user_nid))

    @endpoint("getDevice", "GET", _DEVICE, auth=Auth.GUEST_ALLOWED, limit="default")
    async def get_device(self, requester: Requester, device_id: Path[str]) -> Device:
        """One of one's devices."""
        return await self._devices.get(requester.user_nid, DeviceId(device_id))

    @endpoint("updateDevice", "PUT", _DEVICE, auth=Auth.USER, limit="default", when_suspended=True)
    async def update_device(
        self, requester: Requester, device_id: Path[str], body: Body[DeviceBody]
    ) -> Response:
        """Renames a device; for an application service, makes it if there is none (CHECKLIST DEV-02)."""
        if requester.appservice_id is not None and await self._devices.create(
            requester.user_nid, DeviceId(device_id), body.display_name
        ):
            return Response(201, {})
        await self._devices.rename(
            requester.user_nid, requester.user_id, DeviceId(device_id), body.display_name
        )
        return Response(200, {})

    @endpoint("deleteDevice", "DELETE", _DEVICE, auth=Auth.USER, when_suspended=True)
    async def delete_device(
        self, requester: Requester, device_id: Path[str], body: Body[UiaBody], info: RequestInfo
    ) -> EmptyObject:
        """Ends a device (CHECKLIST DEV-01)."""
        del body  # read as a whole by the authentication
        await self._delete(requester, f"deleteDevice/{device_id}", [device_id], info)
        return EmptyObject()

    @endpoint(
        "deleteDevices", "POST", "/_matrix/client/{v}/delete_devices", auth=Auth.USER, when_suspended=True
    )
    async def delete_devices(
        self, requester: Requester, body: Body[DeleteDevicesBody], info: RequestInfo
    ) -> EmptyObject:
        """Ends several devices."""
        await self._delete(requester, "deleteDevices", body.devices, info)
        return EmptyObject()

    async def _delete(
        self, requester: Requester, operation: str, device_ids: list[str], info: RequestInfo
    ) -> None:
        if requester.appservice_id is not None:
            proof = NOTHING_PROVED
        else:
            proof = await self._uia.require(uia_request(operation, requester, info), [[PASSWORD]])
        await self._devices.delete(requester.user_nid, requester.user_id, map(DeviceId, device_ids))
        await self._uia.forget(proof)
