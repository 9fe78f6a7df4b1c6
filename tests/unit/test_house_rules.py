"""The rules of the house that no other tool checks: short files, short functions, a sentence on top."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for package in ("homeserver", "federation", "appservices") for path in (ROOT / package).rglob("*.py")
)
MAX_FILE, MAX_FUNCTION = 500, 50


def place(path: Path, node: ast.AST | None = None) -> str:
    line = getattr(node, "lineno", 1)
    return f"{path.relative_to(ROOT)}:{line}"


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without the docstring: explaining is never too long."""
    assert function.end_lineno is not None
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1:
        body = body[1:]
    return function.end_lineno - body[0].lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_and_begins_with_what_it_owns(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE, f"{place(path)} has more than {MAX_FILE} lines"
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or not tree.body, f"{place(path)} does not say what it owns"
    long = [place(path, function) for function in functions(tree) if code_lines(function) > MAX_FUNCTION]
    assert not long, f"more than {MAX_FUNCTION} lines: {long}"


# Where (function, file, package) a loop may sleep or wait, and why it ends or cannot end the server. Whatever is done again
# and again is declared with `every`, what must run for ever is started by `SupervisedLoops`, what is deferred is a job.
WAITING_LOOPS = {
    "appservices/bots/": "a bot is a program of its own: none of it runs in the server",
    "federation/transport/body.py pieces": "as long as an answer comes",
    "federation/inbound/room.py run": "while there is something staged for the room, under its lease",
    "homeserver/graph/state/upkeep.py _resolved": "a round over what there is",
    "homeserver/graph/state/upkeep.py _rooms": "a round over what there is",
    "homeserver/graph/state/upkeep.py _shortcuts": "a round over what there is",
    "homeserver/jobs/service.py _note": "until the lease of the job is over",
    "homeserver/jobs/service.py done": "as long as its caller says",
    "homeserver/log/host/election.py run": "supervised",
    "homeserver/log/readers/": "the readers, under their leases",
    "homeserver/log/tail.py run": "supervised",
    "homeserver/log/writer.py run": "supervised",
    "homeserver/runtime/periodic.py _renewed": "as long as the run it belongs to",
    "homeserver/runtime/periodic.py renew": "as long as the run it belongs to",
    "homeserver/runtime/supervised.py _keep": "restarts the permanent loops",
    "homeserver/media/arrivals.py wait": "as long as its caller says",
    "homeserver/rooms/guests.py _find_all": "a round over what there is",
    "homeserver/rooms/guests.py once": "a round over what there is",
    "homeserver/runtime/supervisor.py": "the parent of the serving processes",
    "homeserver/runtime/workers.py": "the parent of the serving processes",
    "homeserver/cli/search.py begin": "until the work it shows is done",
    "homeserver/search/lately.py indexed": "for 0.6 seconds",
    "homeserver/search/rebuild.py once": "a round over what there is",
    "homeserver/storage/claim.py take": "for 20 seconds",
    "homeserver/storage/listen.py _listen_once": "supervised",
    "homeserver/storage/listen.py listen": "supervised",
    "homeserver/sync/all_rooms.py events": "a long poll",
    "homeserver/web/stream.py __aiter__": "as long as the body of a request",
}
WAITS = {"sleep", "wait", "wait_for", "get"}


def waiting_loops(path: Path) -> Iterator[str]:
    """Asynchronous functions with a loop that sleeps or waits in between."""
    for function in functions(ast.parse(path.read_text())):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        for loop in (node for node in ast.walk(function) if isinstance(node, ast.While)):
            awaited = (node.value for node in ast.walk(loop) if isinstance(node, ast.Await))
            names = {getattr(call.func, "attr", "") for call in awaited if isinstance(call, ast.Call)}
            if names & WAITS:
                yield f"{path.relative_to(ROOT)} {function.name}"


def test_no_feature_has_a_background_loop_of_its_own() -> None:
    """Such a loop ends the server, or itself, when somebody forgets one exception."""
    found = {each for path in SOURCES for each in waiting_loops(path)}
    new = {each for each in found if not each.startswith(tuple(WAITING_LOOPS))}
    assert not new, "declare it with `every`, as a job, or start it by SupervisedLoops"


def test_the_next_loop_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "new.py"
    source.write_text(
        "async def run(self):\n    while True:\n        await self._clock.sleep(5)\n        await self.tick()\n"
    )
    monkeypatch.setitem(waiting_loops.__globals__, "ROOT", tmp_path)
    assert list(waiting_loops(source)) == ["new.py run"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_class_says_what_it_owns_not_how_many_there_are(path: Path) -> None:
    assert "one per process" not in path.read_text().lower()


def test_redacted_originals_are_written_and_destroyed_in_one_file() -> None:
    """docs/decisions/0005-redaction-in-place.md: nothing reads what they say."""
    naming = [place(path) for path in SOURCES if "redacted_originals" in path.read_text()]
    allowed = {
        "graph/write/originals_store.py",
        "graph/write/originals.py",
        "config/rooms.py",
        "wiring/core.py",
    }
    assert {name.partition(":")[0].removeprefix("homeserver/") for name in naming} == allowed
    sql = (ROOT / "homeserver/graph/write/originals_store.py").read_text()
    assert "pdu FROM redacted_originals" not in sql


# Where the server writes to rooms by itself, past the policy gate, and how often in the file. Every one is a decision.
SYSTEM_PASSAGES = {
    "federation/handshakes/invited.py": 1,
    "federation/handshakes/third_party.py": 1,
    "homeserver/graph/write/forward_extremities.py": 1,
    "homeserver/rooms/aliases.py": 1,
    "homeserver/rooms/membership.py": 1,
    "homeserver/rooms/own_membership.py": 1,
}


def calls_of(name: str, path: Path) -> int:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return sum(isinstance(call, ast.Name) and call.id == name for call in calls)


def test_nothing_is_written_past_the_policy_gate_but_what_is_listed() -> None:
    """docs/decisions/0015-policy-gate.md."""
    found = {
        str(path.relative_to(ROOT)): count for path in SOURCES if (count := calls_of("system_passage", path))
    }
    assert found == SYSTEM_PASSAGES
    makers = {path.name for path in SOURCES if calls_of("made_by_gate", path) or calls_of("Passage", path)}
    assert makers == {"gate.py", "passages.py"}


def test_no_page_has_marks_of_a_merge() -> None:
    """Python with such marks does not run; a page with them is read by people."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*.yaml"), *(ROOT / "docs").rglob("*.md")]
    marks = ("<<<<<<< ", ">>>>>>> ")
    marked = [
        place(path) for path in pages if any(line.startswith(marks) for line in path.read_text().splitlines())
    ]
    assert marked == []
