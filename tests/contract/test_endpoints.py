"""Every endpoint the specification wants of a homeserver is served, or stands in a list that may only get shorter."""

from collections import defaultdict

import pytest

from tests.support import spec_files
from tests.support.conformance import NOT_SERVED, not_served
from tests.support.endpoints import Row, declared, served, shape, wanted
from tests.support.server import Server
from tests.support.spec import load

FOLDER = spec_files.spec_dir()
pytestmark = pytest.mark.skipif(FOLDER is None, reason=spec_files.ABSENT)

Pairs = set[tuple[str, str]]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    assert FOLDER is not None
    return wanted(FOLDER)


@pytest.fixture(scope="module")
def served_now(rows: list[Row]) -> Pairs:
    return served(rows, declared())


def test_what_is_not_served_is_listed(rows: list[Row], served_now: Pairs) -> None:
    missing = {(row["method"], row["path"]) for row in rows} - served_now - not_served()
    assert missing == set(), f"neither served nor listed in {NOT_SERVED.name}"


def test_what_is_served_is_not_listed_any_more(served_now: Pairs) -> None:
    assert not_served() & served_now == set(), "served now; run: python -m tests.support.conformance"


def test_the_list_names_only_what_the_specification_has(rows: list[Row]) -> None:
    assert not_served() - {(row["method"], row["path"]) for row in rows} == set()


def test_the_list_is_sorted_and_names_nothing_twice() -> None:
    lines = [
        line for line in NOT_SERVED.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")
    ]
    assert lines == sorted(set(lines), key=lambda line: (line.split()[1], line.split()[0]))


def test_an_endpoint_carries_the_operation_id_of_the_specification() -> None:
    spec = load()
    assert spec is not None
    specified: dict[tuple[str, str], set[str]] = defaultdict(set)
    for operation in spec.operations:
        specified[operation.method, shape(operation.path)].add(operation.operation_id)
    wrong = {
        f"{endpoint.method} {path}": endpoint.operation_id
        for endpoint in declared()
        for path in endpoint.paths
        if endpoint.operation_id not in specified.get((endpoint.method, shape(path)), {endpoint.operation_id})
    }
    assert wrong == {}


IF_CONFIGURED = {
    # Clients take any answer but 404 for an offer (tests/integration/calls/test_livekit.py has it configured).
    ("POST", "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave"),
}


async def test_every_declared_endpoint_is_wired_up(server: Server) -> None:
    if server.app is None:
        pytest.skip("this server runs elsewhere")
    wired = {(endpoint.method, path) for endpoint in server.app.registry for path in endpoint.paths}
    missing = {(endpoint.method, path) for endpoint in declared() for path in endpoint.paths} - wired
    assert missing == IF_CONFIGURED
