"""To-device messages, put together."""

from __future__ import annotations

from homeserver.config import Config
from homeserver.runtime.periodic import every
from homeserver.to_device.api import ToDeviceApi
from homeserver.to_device.bound import EVERY_SECONDS, Most, QueueBound
from homeserver.to_device.entries import ToDeviceSink
from homeserver.to_device.known import KnownDevices
from homeserver.to_device.service import ToDeviceService
from homeserver.to_device.stream import ToDeviceStream
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


class ToDeviceFeature:
    """Service, stream, endpoint, the bound on what waits."""

    def __init__(self, config: Config, core: Core, limiter: RateLimiter) -> None:
        self._known = known = KnownDevices(core.db, core.memory)
        self.service = ToDeviceService(
            core.db, core.log, core.transactions, core.interning, core.server_name, limiter, known
        )
        self.stream = ToDeviceStream(core.db)
        self.bound = QueueBound(
            core.db,
            core.clock,
            Most(config.limits.waiting_messages, config.limits.waiting_bytes),
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="to_device",
            apis=[ToDeviceApi(self.service)],
            sinks=[ToDeviceSink()],
            projections=[self.stream, self._known],
            streams=[self.stream],
            device_listeners=[self.stream],
            periodic=[
                every(EVERY_SECONDS, self.bound.sweep, name="to_device.bound", once_in_cluster=True),
                # Whichever process sees first that much has come; for two at once it is harmless.
                every(
                    EVERY_SECONDS, self._sweep_if_much_came, name="to_device.much", wake=self.stream.much_came
                ),
            ],
        )

    async def _sweep_if_much_came(self) -> None:
        if self.stream.take_much():
            await self.bound.sweep()
