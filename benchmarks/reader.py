"""Somebody who follows what happens through /sync, and knows how far they have read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.people import Person
from benchmarks.wire import RequestFailed, Response

ELEMENT_FILTER: Mapping[str, object] = {
    "room": {"timeline": {"limit": 20}, "state": {"lazy_load_members": True}}
}
"""What Element asks for: 20 events a room, members as they are needed."""

_NEXT_BATCH = re.compile(rb'"next_batch":\s*"([^"]+)"')


@dataclass
class Reader:
    """A device, its filter, and the token of the last answer.

    The first /sync is done once. Later ones start where the last ended: Synapse keeps answers for two minutes, and a
    second first /sync would be old.
    """

    person: Person
    filter_id: str
    since: str

    @classmethod
    async def begin(cls, person: Person, filter_body: Mapping[str, object] = ELEMENT_FILTER) -> Reader:
        """Upload the filter and read everything up to now."""
        filter_id = await person.use_filter(filter_body)
        return cls(person, filter_id, next_batch(await person.sync(filter_id=filter_id)))

    async def peek(self, *, timeout: int = 0) -> Response:
        """What is new, without moving on; `timeout` in milliseconds."""
        return await self.person.sync(since=self.since, filter_id=self.filter_id, timeout=timeout)

    async def read(self, *, timeout: int = 0) -> Response:
        """What is new; the next reading starts after it."""
        response = await self.peek(timeout=timeout)
        self.since = next_batch(response)
        return response

    async def catch_up(self) -> None:
        """Read until there is nothing new."""
        for _ in range(20):
            before = self.since
            await self.read()
            if self.since == before:
                return
        raise RequestFailed(f"{self.person.user_id} gets a new token from every /sync though nothing happens")


def next_batch(response: Response) -> str:
    """The token of a /sync answer, without parsing the rest."""
    found = _NEXT_BATCH.search(response.body)
    if found is None:
        raise RequestFailed(f"no next_batch in {response.body[:200]!r}")
    return found[1].decode()
