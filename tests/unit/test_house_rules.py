"""The rules of the house that no other tool checks: short files, short functions, a sentence on top, features apart."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for package in ("homeserver", "federation", "appservices") for path in (ROOT / package).rglob("*.py")
)
PLUMBING = {
    "app",
    "cli",
    "config",
    "events",
    "graph",
    "jobs",
    "log",
    "matrix",
    "runtime",
    "storage",
    "web",
    "wiring",
}
MAX_FILE, MAX_FUNCTION = 500, 50
# Who reaches into another feature's tables all the same. This list may only get shorter.
REACHING = {
    ("homeserver/accounts/api.py", "homeserver.auth.api"),
    ("homeserver/accounts/ending.py", "homeserver.profiles.store"),
    ("homeserver/accounts/housekeeping.py", "homeserver.auth.store"),
    ("homeserver/accounts/shared_secret.py", "homeserver.auth.api"),
    ("homeserver/auth/appservices.py", "homeserver.accounts.store"),
    ("homeserver/auth/appservices.py", "homeserver.devices.store"),
    ("homeserver/auth/last_seen.py", "homeserver.devices.store"),
    ("homeserver/auth/login_tokens.py", "homeserver.accounts.store"),
    ("homeserver/auth/password_check.py", "homeserver.accounts.store"),
    ("homeserver/auth/sessions.py", "homeserver.devices.store"),
    ("homeserver/auth/stages.py", "homeserver.accounts.store"),
}


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


def feature_of(module: str) -> tuple[str, str] | None:
    """`homeserver.rooms.service.x` is of feature rooms, part service."""
    parts = module.split(".")
    if len(parts) < 2 or parts[0] != "homeserver" or parts[1] in PLUMBING:
        return None
    return parts[1], parts[2] if len(parts) > 2 else ""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_a_feature_never_reaches_into_anothers_tables() -> None:
    """What another feature keeps is asked of its service: its `store.py` is its own."""
    reaching = set()
    for path in SOURCES:
        own = feature_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if own is None:
            continue
        for module in imports(path):
            other = feature_of(module)
            if other is not None and other[0] != own[0] and other[1].endswith(("store", "api")):
                reaching.add((str(path.relative_to(ROOT)), ".".join(module.split(".")[:3])))
    assert not reaching - REACHING, "ask the other feature's service instead"
    assert not REACHING - reaching, "put right: take it off the list"
