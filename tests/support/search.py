"""Searching in tests: the question as clients ask it, and waiting until the index has come to what was said."""

import asyncio
from typing import Any

from homeserver.log.readers.runner import Runner
from tests.support.server import Server
from tests.support.user import User

WITHIN = 60.0


async def indexed(*servers: Server) -> None:
    """Returns when the reader that runs in one of these servers of a database has written everything in the log by now."""
    apps = [server.app for server in servers if server.app is not None]
    position = max(app.core.tail.position for app in apps)
    async with asyncio.timeout(WITHIN):
        while not any(_is_at(app.features.readers.runners.get("search"), position) for app in apps):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.02)


def _is_at(runner: Runner | None, position: int) -> bool:
    if runner is None or runner.scanned < position:
        return False
    return not any(cursor.has_work or cursor.busy for cursor in runner.cursors.values())


async def search(
    user: User, term: str, *, next_batch: str | None = None, expect: Any = 200, **criteria: Any
) -> Any:
    """The `room_events` of an answer."""
    body = {"search_categories": {"room_events": {"search_term": term, **criteria}}}
    answer = await user.post("/search", json=body, params={"next_batch": next_batch}, expect=expect)
    return answer.get("search_categories", {}).get("room_events", answer)


def found(answer: dict[str, Any]) -> list[str]:
    """Event ids of the results, in order."""
    return [each["result"]["event_id"] for each in answer["results"]]


async def bodies(user: User, term: str, **criteria: Any) -> set[str]:
    """What the messages say that are found."""
    answer = await search(user, term, **{"filter": {"limit": 50}, **criteria})
    return {each["result"]["content"].get("body", "") for each in answer["results"]}
