from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from typing_extensions import override

from benchmarks.keys import DeviceKeys
from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.reader import Reader
from benchmarks.scenario import Scenario, keep_busy, work_off
from benchmarks.stage import SETUP_CONCURRENCY, at_most
from benchmarks.wire import RequestFailed, Response
from benchmarks.worlds import crowd

ENCRYPTED = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


class UploadOneTimeKeys(Scenario):
    """4 people at once upload 50 signed one-time keys to devices that have just logged in, twice to each."""

    name = "upload-keys"
    title = "Upload 50 one-time keys"
    operation = "upload"

    @override
    async def measure(self, meter: Meter) -> None:
        people = await self.stage.people(4, "keyholder")
        while meter.wants_more:
            owned = [[await person.log_in_again() for _ in range(10)] for person in people]
            await work_off(
                meter, [[job for device in devices for job in self._uploads(device)] for devices in owned]
            )
            for device in (device for devices in owned for device in devices):
                await device.log_out()

    def _uploads(self, device: Person) -> list[Callable[[], Awaitable[Response]]]:
        keys = DeviceKeys(device)
        bodies = [{"one_time_keys": keys.one_time_keys(50)} for _ in range(2)]
        requests = [device.request("POST", "/keys/upload", body) for body in bodies]
        return [partial(device.connection.succeed, request) for request in requests]


class QueryKeys(Scenario):
    """4 people ask for the device keys of the 200 members of a room, as before the first message to it."""

    name = "query-keys"
    title = "Query the keys of 200 users"
    operation = "query"

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(crowd)
        self.askers = world.members[:4]
        self.everybody = [member.user_id for member in world.members]

        async def publish(member: Person) -> None:
            await member.call("POST", "/keys/upload", {"device_keys": DeviceKeys(member).identity()})

        await at_most(SETUP_CONCURRENCY, (publish(member) for member in world.members))

    @override
    async def measure(self, meter: Meter) -> None:
        body: dict[str, dict[str, list[str]]] = {"device_keys": {user: [] for user in self.everybody}}
        answer = await self.askers[0].call("POST", "/keys/query", body)
        if len(answer["device_keys"]) != len(self.everybody):
            raise RequestFailed(f"keys of {len(answer['device_keys'])} of {len(self.everybody)} users")
        requests = [(asker, asker.request("POST", "/keys/query", body)) for asker in self.askers]
        await keep_busy(meter, [partial(asker.connection.succeed, request) for asker, request in requests])


class ChangeDevice(Scenario):
    """Somebody with 50 devices in 500 encrypted rooms changes what a device can do; the operation is the upload of its keys.

    Afterwards a friend who shares the rooms is asked whether the change was noticed.
    """

    name = "change-device"
    title = "Change one of 50 devices, in 500 rooms"
    operation = "change"

    @override
    async def prepare(self) -> None:
        owner, friend = await self.stage.people(2, "traveller")

        async def furnish(number: int) -> None:
            host, guest = owner.another_connection(), friend.another_connection()
            room = await host.make_room(
                preset="public_chat", name=f"Cell {number}", initial_state=[ENCRYPTED]
            )
            await guest.join(room)
            for person in (host, guest):
                person.connection.close()

        await at_most(SETUP_CONCURRENCY, (furnish(number) for number in range(self.stage.scaled(500))))
        self.owner = owner
        self.onlooker = await Reader.begin(friend)
        self.devices = [await owner.log_in_again() for _ in range(self.stage.scaled(50, least=4))]
        self.keys = [DeviceKeys(device) for device in self.devices]
        for device, keys in zip(self.devices, self.keys, strict=True):
            await device.call("POST", "/keys/upload", {"device_keys": keys.identity()})

    @override
    async def measure(self, meter: Meter) -> None:
        await self.onlooker.catch_up()
        pairs = list(zip(self.devices, self.keys, strict=True))
        await keep_busy(meter, [partial(self._change, itertools.cycle(pairs[lane::4])) for lane in range(4)])
        news = (await self.onlooker.read()).json()
        if self.owner.user_id not in news.get("device_lists", {}).get("changed", []):
            raise RequestFailed("a change of a device that those who share a room are not told of")

    async def _change(self, pairs: Iterator[tuple[Person, DeviceKeys]]) -> Response:
        device, keys = next(pairs)
        return await device.connection.succeed(
            device.request("POST", "/keys/upload", {"device_keys": keys.changed_identity()})
        )
