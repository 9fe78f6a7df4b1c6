"""What a bot must not forget: a small SQLite database beside it. One file, one process.

What a handler changes (state, what is scheduled) is written with the mark that its event is answered, in one
transaction: so after a crash either all of it is there and the event is not handled again, or nothing is and it is.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from appservices.bots.errors import NotConfigured

KEPT_TRANSACTIONS: Final = 1_000
KEPT_ANSWERED: Final = 20_000
KEPT_BUTTONS: Final = 20_000
MAX_VALUE: Final = 256 * 1024
"""Bytes of one value of state."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS transactions (number INTEGER PRIMARY KEY AUTOINCREMENT, txn_id TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT UNIQUE, event TEXT, begun INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS answered (number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS state (scope TEXT, name TEXT, value TEXT, PRIMARY KEY (scope, name));
CREATE TABLE IF NOT EXISTS buttons (event_id TEXT PRIMARY KEY, room_id TEXT, name TEXT, choices TEXT, data TEXT);
CREATE TABLE IF NOT EXISTS schedule (
    id TEXT PRIMARY KEY, task TEXT, due_ms INTEGER, room_id TEXT, user_id TEXT, data TEXT, begun INTEGER DEFAULT 0
);
"""


class Waiting(NamedTuple):
    """An event that is not answered yet."""

    number: int
    event: Mapping[str, Any]


class Buttons(NamedTuple):
    """A message with buttons."""

    event_id: str
    room_id: str
    name: str
    choices: Mapping[str, Any]
    """Emoji -> what the handler is told."""
    data: Any


class Scheduled(NamedTuple):
    """Something to be done later."""

    id: str
    task: str
    due_ms: int
    room_id: str | None
    user_id: str | None
    data: Any


@dataclass(slots=True)
class Effects:
    """What a handler wants to have changed when it has ended."""

    state: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(scope, name) -> value; None: removed."""
    scheduled: list[Scheduled] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    """Messages whose buttons do nothing any more."""


class Store:
    """`path` None: in memory, for tests."""

    def __init__(self, path: Path | None) -> None:
        self._lock = None if path is None else _locked(path)
        self._db = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        if path is not None:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    # --- what comes in -------------------------------------------------------------------------------------------

    def accept(self, txn_id: str, events: Iterable[Mapping[str, Any]]) -> list[Waiting]:
        """Keep a transaction's events until they are answered; when this returns, they are on the disk.

        Returns those that are new: nothing of a transaction that was accepted before, no event that was.
        """
        accepted = []
        with self._transaction() as db:
            if not db.execute("INSERT OR IGNORE INTO transactions (txn_id) VALUES (?)", (txn_id,)).rowcount:
                return []
            for event in events:
                event_id = event.get("event_id")
                if (
                    not isinstance(event_id, str)
                    or db.execute("SELECT 1 FROM answered WHERE event_id = ?", (event_id,)).fetchone()
                ):
                    continue
                added = db.execute(
                    "INSERT OR IGNORE INTO inbox (event_id, event) VALUES (?, ?)",
                    (event_id, json.dumps(event)),
                )
                if added.rowcount:
                    accepted.append(Waiting(int(added.lastrowid or 0), event))
            _keep_newest(db, "transactions", KEPT_TRANSACTIONS)
        return accepted

    def waiting(self) -> list[Waiting]:
        """All that is not answered yet, in order."""
        rows = self._db.execute("SELECT number, event FROM inbox ORDER BY number")
        return [Waiting(number, json.loads(event)) for number, event in rows]

    def count_waiting(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM inbox").fetchone()[0])

    def begin(self, number: int) -> int:
        """Note that an event is begun; how often it was, this time included."""
        self._db.execute("UPDATE inbox SET begun = begun + 1 WHERE number = ?", (number,))
        row = self._db.execute("SELECT begun FROM inbox WHERE number = ?", (number,)).fetchone()
        return int(row[0]) if row else 1

    def answered(self, number: int, effects: Effects) -> None:
        """The event is answered; with what its handler wants to have changed."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO answered (event_id) SELECT event_id FROM inbox WHERE number = ?",
                (number,),
            )
            db.execute("DELETE FROM inbox WHERE number = ?", (number,))
            _apply(db, effects)
            _keep_newest(db, "answered", KEPT_ANSWERED)

    # --- state ---------------------------------------------------------------------------------------------------

    def value(self, scope: str, name: str) -> Any:
        """What is kept; None: nothing."""
        row = self._db.execute(
            "SELECT value FROM state WHERE scope = ? AND name = ?", (scope, name)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, scope: str, name: str, value: Any) -> None:
        """Keep something at once, beside any handler. None: nothing."""
        with self._transaction() as db:
            _apply(db, Effects(state={(scope, name): value}))

    # --- buttons -------------------------------------------------------------------------------------------------

    def add_buttons(self, buttons: Buttons) -> None:
        """At once, since somebody may press one before the handler has ended; the same again changes nothing."""
        self._db.execute(
            "DELETE FROM buttons WHERE rowid <= (SELECT max(rowid) FROM buttons) - ?", (KEPT_BUTTONS,)
        )
        self._db.execute(
            "INSERT OR IGNORE INTO buttons (event_id, room_id, name, choices, data) VALUES (?, ?, ?, ?, ?)",
            (
                buttons.event_id,
                buttons.room_id,
                buttons.name,
                json.dumps(buttons.choices),
                json.dumps(buttons.data),
            ),
        )

    def buttons(self, event_id: str) -> Buttons | None:
        row = self._db.execute(
            "SELECT event_id, room_id, name, choices, data FROM buttons WHERE event_id = ?", (event_id,)
        ).fetchone()
        if row is None:
            return None
        return Buttons(row[0], row[1], row[2], json.loads(row[3]), json.loads(row[4]))

    # --- what is scheduled ---------------------------------------------------------------------------------------

    def next_due(self) -> Scheduled | None:
        """What is to be done first."""
        row = self._db.execute(
            "SELECT id, task, due_ms, room_id, user_id, data FROM schedule ORDER BY due_ms, id LIMIT 1"
        ).fetchone()
        return None if row is None else Scheduled._make((*row[:5], json.loads(row[5])))

    def begin_scheduled(self, scheduled: Scheduled) -> int:
        """As `begin`."""
        self._db.execute("UPDATE schedule SET begun = begun + 1 WHERE id = ?", (scheduled.id,))
        row = self._db.execute("SELECT begun FROM schedule WHERE id = ?", (scheduled.id,)).fetchone()
        return int(row[0]) if row else 1

    def done(self, scheduled: Scheduled, effects: Effects) -> None:
        """As `answered`. It may have been scheduled anew under the same id by then."""
        with self._transaction() as db:
            db.execute("DELETE FROM schedule WHERE id = ? AND due_ms = ?", (scheduled.id, scheduled.due_ms))
            _apply(db, effects)

    def put_scheduled(self, scheduled: Scheduled) -> None:
        """At once, beside any handler."""
        with self._transaction() as db:
            _apply(db, Effects(scheduled=[scheduled]))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """A block that is written as one, or not."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.execute("COMMIT" if error is None else "ROLLBACK")


def _apply(db: sqlite3.Connection, effects: Effects) -> None:
    for (scope, name), value in effects.state.items():
        if value is None:
            db.execute("DELETE FROM state WHERE scope = ? AND name = ?", (scope, name))
        else:
            db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (scope, name, json.dumps(value)))
    for event_id in effects.closed:
        db.execute("DELETE FROM buttons WHERE event_id = ?", (event_id,))
    for id_ in effects.cancelled:
        db.execute("DELETE FROM schedule WHERE id = ?", (id_,))
    for each in effects.scheduled:
        db.execute(
            "INSERT OR REPLACE INTO schedule (id, task, due_ms, room_id, user_id, data) VALUES (?, ?, ?, ?, ?, ?)",
            (*each[:5], json.dumps(each.data)),
        )


def _keep_newest(db: sqlite3.Connection, table: str, count: int) -> None:
    db.execute(f"DELETE FROM {table} WHERE number <= (SELECT max(number) FROM {table}) - ?", (count,))  # noqa: S608  # names of ours


def _locked(path: Path) -> Any:
    """Raises `NotConfigured` if another process has it."""
    file = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise NotConfigured(f"Another process runs this bot: it holds {path}") from None
    return file
