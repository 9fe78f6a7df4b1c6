from __future__ import annotations

from functools import partial
from urllib.parse import quote

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.scenario import Scenario, keep_busy
from benchmarks.wire import Response
from benchmarks.worlds import long_past

PAGE = 50
FILTER = quote('{"lazy_load_members":true}')


class Paging(Scenario):
    """4 members read a room with 1 000 messages backwards, 50 events a page, and begin again at its end."""

    name = "paging"
    title = "Page backwards, 50 events a page"
    operation = "page"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(long_past)

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(meter, [partial(self._turn_page, member, {}) for member in self.world.members])

    async def _turn_page(self, member: Person, place: dict[str, str]) -> Response:
        query = f"dir=b&limit={PAGE}&filter={FILTER}"
        if "from" in place:
            query += f"&from={quote(place['from'])}"
        path = f"/rooms/{quote(self.world.room)}/messages?{query}"
        response = await member.connection.succeed(member.request("GET", path))
        answer = response.json()
        place.clear()
        if answer["chunk"] and "end" in answer:
            place["from"] = answer["end"]
        return response
