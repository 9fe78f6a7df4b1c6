from __future__ import annotations

from functools import partial
from typing import ClassVar
from urllib.parse import quote

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.scenario import Scenario, keep_busy
from benchmarks.wire import RequestFailed
from benchmarks.worlds import assembly

ASKERS = 4


class JoinedMembers(Scenario):
    """4 people ask who is in a room of 2 000, each with a name of their own."""

    name = "joined-members"
    title = "joined_members, room of 2 000"
    by_name_only = True
    path: ClassVar[str] = "joined_members"
    each: ClassVar[bytes] = b'"@assembly-'

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(assembly)

    @override
    async def measure(self, meter: Meter) -> None:
        people = self.world.members[:ASKERS]
        requests = [
            (person, person.request("GET", f"/rooms/{quote(self.world.room)}/{self.path}"))
            for person in people
        ]
        answer = await people[0].connection.succeed(requests[0][1])
        if answer.body.count(self.each) < len(self.world.members):
            raise RequestFailed(f"{answer.body.count(self.each)} of {len(self.world.members)} members")
        await keep_busy(meter, [partial(person.connection.succeed, request) for person, request in requests])


class Members(JoinedMembers):
    """The same with their whole events."""

    name = "members"
    title = "members, room of 2 000"
    path = "members"


class RoomState(JoinedMembers):
    """All of the state of that room."""

    name = "room-state"
    title = "state, room of 2 000"
    path = "state"
