"""To-device messages, put together."""

from __future__ import annotations

from homeserver.devices.service import DeviceService
from homeserver.to_device.api import ToDeviceApi
from homeserver.to_device.service import ToDeviceService
from homeserver.to_device.stream import ToDeviceStream
from homeserver.wiring.core import Core


class ToDeviceFeature:
    """Service, stream, endpoint."""

    def __init__(self, core: Core, devices: DeviceService) -> None:
        self.service = ToDeviceService(core.db, core.log, core.transactions, core.interning, core.server_name)
        self.stream = ToDeviceStream(core.db)
        core.tail.attach(self.stream)
        devices.listen(self.stream)

    def apis(self) -> list[object]:
        """Endpoints."""
        return [ToDeviceApi(self.service)]
