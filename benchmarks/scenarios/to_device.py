from __future__ import annotations

import itertools
from functools import partial

from typing_extensions import override

from benchmarks.keys import DeviceKeys, unpadded
from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.reader import Reader
from benchmarks.scenario import Scenario, keep_busy, work_off
from benchmarks.stage import SETUP_CONCURRENCY, at_most
from benchmarks.wire import RequestFailed, Response
from benchmarks.worlds import crowd

BACKLOG = 100
CIPHERTEXT = {"type": 1, "body": unpadded(bytes(range(200)))}
CONTENT = {
    "algorithm": "m.olm.v1.curve25519-aes-sha2",
    "sender_key": unpadded(bytes(32)),
    "ciphertext": {unpadded(bytes(range(32))): CIPHERTEXT},
}
"""As large as a room key in an Olm message."""

_transactions = itertools.count()


def to_device(sender: Person, receivers: list[Person]) -> bytes:
    """The request that sends one message to each of these devices."""
    messages: dict[str, dict[str, object]] = {}
    for receiver in receivers:
        messages.setdefault(receiver.user_id, {})[receiver.device_id] = CONTENT
    path = f"/sendToDevice/m.room.encrypted/bench-{next(_transactions)}"
    return sender.request("PUT", path, {"messages": messages})


class SendToDevice(Scenario):
    """4 people send one message to one device, one after another; nobody reads them meanwhile."""

    name = "send-to-device"
    title = "Send a message to a device"
    operation = "message"
    by_name_only = True

    @override
    async def prepare(self) -> None:
        self.senders = await self.stage.people(4, "courier")
        self.receivers = await self.stage.people(4, "addressee")

    @override
    async def measure(self, meter: Meter) -> None:
        devices = [await person.log_in_again() for person in self.receivers]
        pairs = zip(self.senders, devices, strict=True)
        await keep_busy(meter, [partial(self._send, sender, device) for sender, device in pairs])
        for device in devices:
            await device.log_out()

    async def _send(self, sender: Person, device: Person) -> Response:
        return await sender.connection.succeed(to_device(sender, [device]))


class DrainToDevice(Scenario):
    """/sync of a device that 100 messages wait for, and the one that acknowledges them; the sending is not measured."""

    name = "drain-to-device"
    title = "Read 100 messages to a device, and acknowledge them"
    operation = "device"
    by_name_only = True

    @override
    async def prepare(self) -> None:
        self.sender, self.receiver = await self.stage.people(2, "dispatch")

    @override
    async def measure(self, meter: Meter) -> None:
        number = 4
        while meter.wants_more:
            devices = [await self.receiver.log_in_again() for _ in range(number)]
            readers = [await Reader.begin(device) for device in devices]
            for _ in range(BACKLOG):
                await self.sender.connection.succeed(to_device(self.sender, devices))
            before = meter.open_seconds
            await work_off(meter, [[partial(self._drain, reader) for reader in readers]])
            for device in devices:
                await device.log_out()
            if meter.open_seconds - before < meter.seconds / 4:
                number = min(number * 4, 64)

    async def _drain(self, reader: Reader) -> Response:
        response = await reader.read()
        if (found := response.body.count(b"m.room.encrypted")) != BACKLOG:
            raise RequestFailed(f"{found} of {BACKLOG} messages to a device")
        await reader.peek()
        return response


class ClaimKeys(Scenario):
    """Somebody claims a one-time key of each of the 200 members of a room; the uploading is not measured."""

    name = "claim-keys"
    title = "Claim one-time keys of 200 devices"
    operation = "claim"
    by_name_only = True

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(crowd)
        self.members = world.members
        self.keys = {member.user_id: DeviceKeys(member) for member in world.members}

        async def publish(member: Person) -> None:
            await member.call("POST", "/keys/upload", {"device_keys": self.keys[member.user_id].identity()})

        await at_most(SETUP_CONCURRENCY, (publish(member) for member in world.members))

    @override
    async def measure(self, meter: Meter) -> None:
        each = 5
        asked = {member.user_id: {member.device_id: "signed_curve25519"} for member in self.members}

        async def upload(member: Person) -> None:
            keys = self.keys[member.user_id].one_time_keys(each)
            await member.call("POST", "/keys/upload", {"one_time_keys": keys})

        while meter.wants_more:
            await at_most(SETUP_CONCURRENCY, (upload(member) for member in self.members))
            claimer = self.members[0]
            request = claimer.request("POST", "/keys/claim", {"one_time_keys": asked})
            before = meter.open_seconds
            await work_off(meter, [[partial(self._claim, claimer, request) for _ in range(each)]])
            if meter.open_seconds - before < meter.seconds / 4:
                each = min(each * 2, 50)

    async def _claim(self, claimer: Person, request: bytes) -> Response:
        response = await claimer.connection.succeed(request)
        if (found := response.body.count(b"signed_curve25519:")) != len(self.members):
            raise RequestFailed(f"keys of {found} of {len(self.members)} devices")
        return response
