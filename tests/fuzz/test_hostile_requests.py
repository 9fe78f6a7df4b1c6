"""Every endpoint, wrong in every single place: the spec's error with a 4xx, never a 5xx, never silence (API-03).

By default a fixed part of the sweep is run; `--slow` runs it whole.
"""

import pytest

from homeserver.web.endpoint import Endpoint
from tests.fuzz.attacks import attacks, share
from tests.fuzz.conftest import Casting
from tests.fuzz.harness import Book, throw
from tests.support.endpoints import declared
from tests.support.server import Server

# One of so many attacks: about a quarter of a minute for all endpoints together.
PART = 4


def name(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.paths[0]}"


ENDPOINTS: list[Endpoint] = sorted(declared(), key=name)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name)
async def test_a_hostile_request_is_refused_in_good_order(
    endpoint: Endpoint, abused_server: Server, casting: Casting, pytestconfig: pytest.Config
) -> None:
    book = Book()
    every = attacks(endpoint, await casting.cast())
    await throw(
        abused_server.url, every if pytestconfig.getoption("--slow") else share(every, one_of=PART), book
    )
    assert not book.wrong, book.report()
