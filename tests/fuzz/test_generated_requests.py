"""Requests that the specification's schemas allow and forbid, by the thousand: answered in good order, whatever they are."""

import pytest

from tests.fuzz.conftest import Casting
from tests.fuzz.generated import draw
from tests.fuzz.harness import Book, throw
from tests.support import spec_files
from tests.support.endpoints import declared, shape
from tests.support.server import Server
from tests.support.spec import Operation, load

FEW, MANY = 3, 25  # requests of each kind for each operation


def served_operations() -> list[Operation]:
    spec = load()
    shapes = {(endpoint.method, shape(path)) for endpoint in declared() for path in endpoint.paths}
    operations = spec.operations if spec else ()
    served = [each for each in operations if (each.method, shape(each.path)) in shapes]
    return sorted(served, key=lambda each: (each.path, each.method))  # one order in all processes of a run


@pytest.mark.skipif(load() is None, reason=spec_files.ABSENT)
@pytest.mark.parametrize("operation", served_operations(), ids=lambda operation: operation.operation_id)
async def test_generated_requests_are_answered_in_good_order(
    operation: Operation, abused_server: Server, casting: Casting, pytestconfig: pytest.Config
) -> None:
    slow = bool(pytestconfig.getoption("--slow"))
    book = Book()
    cast = await casting.cast()
    drawn = draw(
        operation, cast, examples=MANY if slow else FEW, repeatable=not pytestconfig.getoption("--explore")
    )
    await throw(abused_server.url, list(drawn), book)
    assert not book.wrong, book.report()
