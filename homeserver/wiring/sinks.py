"""Every kind of log entry beside events, and where it is stored. One line per feature."""

from __future__ import annotations

from typing import Any

from homeserver.account_data.entries import AccountDataSink
from homeserver.accounts.erasure import UserErasedSink
from homeserver.auth.entries import SessionsChangedSink
from homeserver.e2ee.entries import DeviceListSink, KeyCountSink, KeysClaimedSink, KeysSpentSink
from homeserver.log.entries import Sink
from homeserver.presence.entries import PresenceSink
from homeserver.profiles.entries import ProfileChangedSink
from homeserver.receipts.entries import ReceiptSink
from homeserver.rooms.entries import ForgetSink
from homeserver.to_device.entries import ToDeviceSink
from homeserver.typing.entries import TypingSink


def feature_sinks() -> list[Sink[Any]]:
    """A sink per entry type."""
    return [
        ForgetSink(),
        AccountDataSink(),
        ReceiptSink(),
        TypingSink(),
        PresenceSink(),
        ToDeviceSink(),
        DeviceListSink(),
        KeyCountSink(),
        KeysClaimedSink(),
        KeysSpentSink(),
        SessionsChangedSink(),
        ProfileChangedSink(),
        UserErasedSink(),
    ]
