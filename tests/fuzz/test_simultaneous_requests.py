"""The same proper request many times at once: one may win and the others be refused, but none is an accident.

Clients retry, double-click and run on several devices; what is read before it is written is found out here.
"""

import pytest

from homeserver.web.endpoint import Endpoint
from tests.fuzz.attacks import Attack, attacks
from tests.fuzz.conftest import Casting
from tests.fuzz.harness import Book, throw
from tests.support.endpoints import declared
from tests.support.server import Server

TIMES = 16
WRITES: list[Endpoint] = sorted(
    (endpoint for endpoint in declared() if endpoint.method != "GET"),
    key=lambda endpoint: (endpoint.paths[0], endpoint.method),
)


@pytest.mark.parametrize("endpoint", WRITES, ids=lambda endpoint: f"{endpoint.method} {endpoint.paths[0]}")
async def test_many_equal_requests_at_once_are_answered_in_good_order(
    endpoint: Endpoint, abused_server: Server, casting: Casting
) -> None:
    book = Book()
    proper: Attack = next(attacks(endpoint, await casting.cast()))
    await throw(abused_server.url, [proper] * TIMES, book)
    assert not book.wrong, book.report()
