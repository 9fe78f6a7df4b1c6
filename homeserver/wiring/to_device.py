"""To-device messages, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.devices.service import DeviceService
from homeserver.runtime.periodic import Periodic, every
from homeserver.to_device.api import ToDeviceApi
from homeserver.to_device.bound import EVERY_SECONDS, QueueBound
from homeserver.to_device.service import ToDeviceService
from homeserver.to_device.stream import ToDeviceStream
from homeserver.wiring.core import Core


class ToDeviceFeature:
    """Service, stream, endpoint, the bound on what waits."""

    def __init__(self, config: Config, core: Core, devices: DeviceService) -> None:
        self.service = ToDeviceService(core.db, core.log, core.transactions, core.interning, core.server_name)
        self.stream = ToDeviceStream(core.db)
        core.tail.attach(self.stream)
        devices.listen(self.stream)
        self.bound = QueueBound(core.db, core.clock, config.limits.waiting_messages)

    def apis(self) -> list[object]:
        """Endpoints."""
        return [ToDeviceApi(self.service)]

    def periodic(self) -> list[Periodic]:
        """Background work."""
        return [every(EVERY_SECONDS, self.bound.sweep, name="to_device.bound", once_in_cluster=True)]
