"""Devices, keys and messages to devices between servers, put together."""

from __future__ import annotations

from typing import NamedTuple

from federation.devices.api import DevicesApi
from federation.devices.asking import RemoteDevices
from federation.devices.device_edus import DeviceListEdus
from federation.devices.following import RESYNC, Following
from federation.devices.introductions import FORGET_EVERY, IntroductionEdus, IntroductionSink
from federation.devices.messages import (
    SWEEP_EVERY,
    DeviceMessageEdus,
    DeviceMessageSink,
    MessagesHeard,
    RemoteMessages,
)
from federation.devices.own import OwnLists
from federation.devices.sharing import Sharing
from homeserver.e2ee.remote_lists import RemoteLists
from homeserver.e2ee.source import DeviceVersions
from homeserver.runtime.periodic import every
from homeserver.wiring.core import Core
from homeserver.wiring.e2ee import E2eeFeature
from homeserver.wiring.federation import FederationFeature
from homeserver.wiring.federation_inbound import FederationInboundFeature
from homeserver.wiring.federation_outbound import FederationOutboundFeature
from homeserver.wiring.manifest import Manifest
from homeserver.wiring.rooms import RoomsFeature
from homeserver.wiring.to_device import ToDeviceFeature


class Parts(NamedTuple):
    """What other features have."""

    federation: FederationFeature
    inbound: FederationInboundFeature
    outbound: FederationOutboundFeature
    rooms: RoomsFeature
    e2ee: E2eeFeature
    to_device: ToDeviceFeature


class FederationDevicesFeature:
    """To be made before the manifest of what sends is asked for."""

    def __init__(self, core: Core, parts: Parts, *, enabled: bool, named: bool) -> None:
        """`named`: whether others are told what people call their devices."""
        self._enabled = enabled
        e2ee, queries, memberships = parts.e2ee, parts.e2ee.queries, parts.rooms.memberships
        versions = DeviceVersions(core.db)
        self.lists = RemoteLists(core.db, core.log, core.interning)
        remote = RemoteDevices(parts.federation.client, self.lists)
        self._following = Following(
            self.lists, remote, memberships, core.interning, core.jobs, core.db, core.clock
        )
        self._messages = DeviceMessageEdus(core.db)
        self._introductions = IntroductionEdus(core.db, queries, versions, named=named)
        self._sharing = Sharing(
            self.lists,
            core.rooms,
            core.interning,
            core.events,
            memberships,
            parts.outbound.servers,
            core.log,
            core.server_name,
        )
        own = OwnLists(queries, versions, core.interning, core.tail, core.server_name, named=named)
        self._api = DevicesApi(own, queries, e2ee.keys, named=named)
        if not enabled:
            return
        queries.ask_with(remote)
        e2ee.keys.ask_with(remote)
        parts.to_device.service.send_elsewhere_with(RemoteMessages(parts.federation.partners, core.entropy))
        self._following.register(parts.inbound.edus)
        MessagesHeard(parts.to_device.service, core.clock).register(parts.inbound.edus)
        sources = parts.outbound.service.sources
        sources.add_durable(self._messages)
        sources.add_durable(self._introductions)
        sources.add_durable(
            DeviceListEdus(
                queries, versions, parts.outbound.servers, memberships, core.server_name, named=named
            )
        )

    @property
    def manifest(self) -> Manifest:
        """See `Manifest`."""
        if not self._enabled:
            return Manifest(name="federation.devices", sinks=[DeviceMessageSink(), IntroductionSink()])
        return Manifest(
            name="federation.devices",
            apis=[self._api],
            sinks=[DeviceMessageSink(), IntroductionSink()],
            readers=[self._sharing.reader()],
            jobs={RESYNC: self._following.fetch},
            periodic=[
                every(
                    SWEEP_EVERY,
                    self._messages.sweep,
                    name="federation.device_messages",
                    once_in_cluster=True,
                ),
                every(
                    FORGET_EVERY,
                    self._introductions.forget,
                    name="federation.device_introductions",
                    once_in_cluster=True,
                ),
            ],
        )
