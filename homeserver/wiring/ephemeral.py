"""Receipts and typing, put together."""

from __future__ import annotations

from homeserver.receipts.api import ReceiptsApi
from homeserver.receipts.elsewhere import EVERY, RemoteReceipts
from homeserver.receipts.entries import ReceiptSink
from homeserver.receipts.service import ReceiptService
from homeserver.receipts.stream import ReceiptSource
from homeserver.runtime.periodic import every
from homeserver.sync.ephemeral import EphemeralStream
from homeserver.typing.api import TypingApi
from homeserver.typing.entries import TypingSink
from homeserver.typing.service import Typing, TypingService
from homeserver.wiring.account_data import AccountDataFeature
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import Manifest


class EphemeralFeature:
    """Services, stream, endpoints."""

    def __init__(self, core: Core, account_data: AccountDataFeature) -> None:
        self.receipts = ReceiptService(
            core.db, core.log, core.rooms, core.events, account_data.service, core.clock
        )
        self.remote_receipts = RemoteReceipts(core.db, core.log, core.events, core.clock)
        self.typing = Typing(core.clock)
        self.typing_service = TypingService(core.log, core.rooms, self.typing, core.clock)
        self.receipt_source = ReceiptSource(core.db)
        self.stream = EphemeralStream([self.receipt_source, self.typing])

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        return Manifest(
            name="ephemeral",
            apis=[ReceiptsApi(self.receipts), TypingApi(self.typing_service)],
            sinks=[ReceiptSink(), TypingSink()],
            projections=[self.typing, self.remote_receipts],
            streams=[self.stream],
            periodic=[
                every(1.0, self.typing_service.tick, name="typing"),
                every(
                    EVERY,
                    self.remote_receipts.tick,
                    name="receipts.elsewhere",
                    wake=self.remote_receipts.wake,
                ),
            ],
        )
