"""Finding rooms and messages: the rooms of a space, the room directory, search."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from urllib.parse import quote

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.scenario import Scenario, keep_busy
from benchmarks.wire import RequestFailed, Response
from benchmarks.worlds import many_rooms, space

PAGE = 50
"""Rooms of a space asked for at a time: Synapse gives no more."""


class Hierarchy(Scenario):
    """Three at a time of 20 people read all rooms of a space with 200 rooms, page by page; all pages are one operation.

    Synapse lets each of them read five pages a second, whatever its configuration says.
    """

    name = "hierarchy"
    title = "Hierarchy of a space of 200 rooms"
    operation = "hierarchy"
    at_once = 3

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(space)
        self.readers = itertools.cycle(self.world.members)

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(meter, [self._read] * self.at_once)

    async def _read(self) -> Response:
        person = next(self.readers).another_connection()
        seconds, found, after = 0.0, 0, ""
        path = f"/_matrix/client/v1/rooms/{quote(self.world.space)}/hierarchy?limit={PAGE}"
        while True:
            request = person.target.request("GET", path + after, token=person.token)
            response = await person.connection.succeed(request)
            seconds += response.seconds
            page = response.json()
            found += len(page["rooms"])
            if "next_batch" not in page:
                break
            after = f"&from={quote(page['next_batch'])}"
        person.connection.close()
        if found != len(self.world.rooms) + 1:
            raise RequestFailed(f"{found} of {len(self.world.rooms) + 1} rooms in a hierarchy")
        return replace(response, seconds=seconds)


class HierarchyAlone(Hierarchy):
    """One reader at a time: how long they wait for all pages."""

    name = "hierarchy-alone"
    title = "The same, one reader at a time"
    by_name_only = True
    at_once = 1


class PublicRooms(Scenario):
    """3 people look for a word in the names of 200 public rooms."""

    name = "public-rooms"
    title = "Room directory, a word among 200 rooms"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(space)
        self.limits = itertools.cycle(range(20, 30))

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(meter, [partial(self._look, member) for member in self.world.members[:3]])

    async def _look(self, person: Person) -> Response:
        limit = next(self.limits)
        body = {"limit": limit, "filter": {"generic_search_term": "workshop"}}
        response = await person.connection.succeed(person.request("POST", "/publicRooms", body))
        if (found := response.body.count(b'"room_id"')) != min(limit, len(self.world.rooms)):
            raise RequestFailed(f"{found} of {limit} rooms in the directory")
        return response


class Search(Scenario):
    """3 people look for words that are in every message of 200 rooms; ten results are asked for."""

    name = "search"
    title = "Search, 4 000 messages in 200 rooms"
    operation = "search"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(many_rooms)
        self.words = itertools.cycle(["fox", "lazy", "brown", "jumps", "quick", "mind"])

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(meter, [partial(self._look, member) for member in self.world.members[:3]])

    async def _look(self, person: Person) -> Response:
        wanted = {"search_term": next(self.words), "filter": {"limit": 10}, "order_by": "recent"}
        body = {"search_categories": {"room_events": wanted}}
        response = await person.connection.succeed(person.request("POST", "/search", body))
        if (found := response.body.count(b'"rank"')) != 10:
            raise RequestFailed(f"{found} of 10 results")
        return response
