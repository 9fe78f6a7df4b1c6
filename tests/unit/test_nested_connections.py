"""Whoever holds a database connection waits for nothing but that connection.

Ten tasks that hold the ten connections of a pool, each waiting for one more (or for somebody who needs one), stand still
until all of them time out. So inside `async with db.read() as tx`, and in every function that is handed a `Tx`, only what is
given that `tx` may be awaited. `Database.strict` finds at run time what does not show in the text.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.unit.test_house_rules import SOURCES, place

TAKES = {"read", "transaction", "snapshot"}
HANDED = {"Tx", "Tx | None"}
ALLOWED = {
    # Whoever holds this lock has a connection of its own, or needs none.
    "self._lock",
    # A step aside: nobody is waited for.
    "asyncio.sleep(0)",
}


def found_in(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, what is awaited) of everything awaited that a held connection has no part in."""
    return list(_walk(tree, frozenset()))


def _walk(node: ast.AST, held: frozenset[str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        given = (*node.args.args, *node.args.kwonlyargs)
        held = frozenset(
            each.arg for each in given if each.annotation and ast.unparse(each.annotation) in HANDED
        )
    elif isinstance(node, ast.AsyncWith):
        for item in node.items:
            call = item.context_expr
            if held and not _concerns(call, held) and ast.unparse(call) not in ALLOWED:
                yield node.lineno, ast.unparse(call)
            if _takes(call):
                held |= {
                    item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else "a connection"
                }
        for each in node.body:
            yield from _walk(each, held)
        return
    elif isinstance(node, ast.Await | ast.AsyncFor):
        what = node.value if isinstance(node, ast.Await) else node.iter
        if held and not _concerns(what, held) and ast.unparse(what) not in ALLOWED:
            yield node.lineno, ast.unparse(what)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, held)


def _takes(call: ast.expr) -> bool:
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in TAKES


def _concerns(expression: ast.expr, held: frozenset[str]) -> bool:
    names = {each.id for each in ast.walk(expression) if isinstance(each, ast.Name)}
    return isinstance(expression, ast.Call) and bool(names & held)


def test_nothing_else_is_awaited_while_a_connection_is_held() -> None:
    found = [
        f"{place(path)[:-1]}{line}: {what}"
        for path in SOURCES
        for line, what in found_in(ast.parse(path.read_text()))
    ]
    assert not found, "hand the tx on, or wait before or after"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("async with db.read() as tx:\n  await find(tx)\n  await tx.all('')", []),
        ("async with db.read() as tx:\n  await self.names()", [3]),
        ("async with db.read() as tx, db.read() as other:\n  pass", [2]),
        ("async with db.read() as tx:\n  async with db.transaction():\n    pass", [3]),
        ("async with db.transaction(first=True):\n  await future", [3]),
        ("async with db.read() as tx:\n  pass\nawait self.names()", []),
        ("async with db.read() as tx:\n  async for each in others():\n    pass", [3]),
    ],
)
def test_what_is_found(body: str, expected: list[int]) -> None:
    text = "async def f():\n" + "\n".join(f"  {line}" for line in body.split("\n"))
    assert [line for line, _ in found_in(ast.parse(text))] == expected


def test_who_is_handed_a_connection_holds_it() -> None:
    text = "async def f(tx: Tx, db):\n  async with db.read() as own:\n    pass"
    assert [line for line, _ in found_in(ast.parse(text))] == [2]
