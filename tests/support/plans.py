"""What a statement reads: the plans that PostgreSQL makes, and how many rows and index entries they touch."""

from __future__ import annotations

from typing import Any

import psycopg


class Recorded:
    """Stands for a transaction or a pipeline: keeps the statements that a store would run, and runs none."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, dict[str, Any]]] = []

    def all(self, sql: str, **values: Any) -> _Nothing:
        self.statements.append((sql, values))
        return _Nothing()

    def pieces(self, rows: int, sql: str, **values: Any) -> _Nothing:
        return self.all(sql, **values)


class _Nothing:
    def __await__(self) -> Any:
        yield from ()
        return []


def explain(connection: psycopg.Connection[Any], sql: str, values: dict[str, Any]) -> dict[str, Any]:
    """The plan of a statement that was run, with what each node has read."""
    row = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, values).fetchone()  # type: ignore[arg-type]
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def rows_read(plan: dict[str, Any]) -> float:
    """Rows that all scans together read, and entries of indexes read for a bitmap."""
    below = sum(rows_read(each) for each in plan.get("Plans", []))
    if "Relation Name" not in plan and "Index Name" not in plan:
        return below
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return float(plan["Actual Rows"] + removed) * float(plan["Actual Loops"]) + below
