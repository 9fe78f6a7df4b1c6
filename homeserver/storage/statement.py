"""A SQL statement as written in a `store.py`, made ready once for the whole process.

Named parameters `%(name)s` become numbered ones; what PostgreSQL said about their types is kept, so that every further
connection can prepare the statement in the same breath as it runs it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult

from homeserver.storage.encoding import Encoder, encoder_of
from homeserver.storage.errors import UnstorableText

_PLACEHOLDER = re.compile(r"%(?:\((\w+)\)s|(%)|(.?))", re.DOTALL)
_COMMENTS = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*", re.DOTALL)
_READS = re.compile(r"(?:select|with|values|show|explain|table)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(?:insert\s+into|update|delete\s+from|merge\s+into)\s+\w", re.IGNORECASE)
_LITERALS = re.compile(r"'(?:[^']|'')*'")
_LOCKS = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b.*", re.IGNORECASE | re.DOTALL)

_numbers = itertools.count(1)


class Statement:
    """One statement, shared by all connections of a process.

    `described` is false until a connection has asked PostgreSQL for the parameters' types.
    """

    __slots__ = (
        "name",
        "sql",
        "parameters",
        "writes",
        "oids",
        "_encoders",
        "formats",
        "_decoder",
        "_decodes",
    )

    def __init__(self, sql: str) -> None:
        self.name = b"s%d" % next(_numbers)
        self.parameters, text = _number(sql)
        self.sql = text.encode()
        self.writes = _is_write(text)
        self.oids: list[int] | None = None
        self._encoders: list[tuple[str, Encoder]] = []
        self.formats: list[int] | None = None
        """Text (0) or binary (1), for each parameter."""
        self._decoder: Any = None
        self._decodes = False

    @property
    def described(self) -> bool:
        return self.oids is not None

    def describe(self, oids: Iterable[int]) -> None:
        """Take note of the parameters' PostgreSQL types."""
        self.oids = list(oids)
        chosen = [encoder_of(oid) for oid in self.oids]
        self._encoders = [(name, encode) for name, (encode, _) in zip(self.parameters, chosen, strict=True)]
        self.formats = [form for _, form in chosen] or None

    def encode(self, values: Mapping[str, Any]) -> list[bytes | None] | None:
        """The parameters' bytes in order; None where there are no parameters.

        Raises:
            TypeError: a parameter is missing, unknown or of the wrong kind.
            UnstorableText: a text that no column holds.
        """
        if len(values) != len(self.parameters):
            raise TypeError(
                f"parameters given {sorted(values)}, wanted {sorted(self.parameters)}: {self.sql.decode()}"
            )
        encoded: list[bytes | None] = []
        name = ""
        try:
            for name, encode in self._encoders:
                value = values[name]
                encoded.append(None if value is None else encode(value))
        except KeyError as error:
            raise TypeError(f"parameter {error} is missing: {self.sql.decode()}") from None
        except UnstorableText as error:
            raise UnstorableText(f"parameter {name!r} has {error} in it: {self.sql.decode()}") from None
        except Exception as error:
            kind = type(values.get(name)).__name__
            raise TypeError(
                f"parameter {name!r} cannot be a {kind} ({error}): {self.sql.decode()}"
            ) from error
        return encoded or None

    def decode(self, result: PGresult, make_row: Callable[[Any], Any]) -> list[Any]:
        """The result's rows, each given to `make_row` (`tuple` for plain ones)."""
        return self._decode(result, make_row, 0, result.ntuples)

    def decode_pieces(
        self, result: PGresult, make_row: Callable[[Any], Any], size: int
    ) -> Iterator[list[Any]]:
        """The same, some rows at a time; what is between two pieces may take as long as it wants."""
        count = result.ntuples
        for start in range(0, count, size):
            yield self._decode(result, make_row, start, min(start + size, count))

    def _decode(self, result: PGresult, make_row: Callable[[Any], Any], start: int, end: int) -> list[Any]:
        if start == end:
            return []
        if self._decoder is None:
            self._decoder = Transformer()
        decoder = self._decoder
        decoder.set_pgresult(result, set_loaders=not self._decodes)
        self._decodes = True
        try:
            rows: list[Any] = decoder.load_rows(start, end, make_row)
        finally:
            decoder.set_pgresult(None, set_loaders=False)  # or the last result would stay in memory
        return rows


class Statements:
    """All statements of a process, by their text. They stand in the code as literals, so there are finitely many."""

    def __init__(self) -> None:
        self.by_sql: dict[str, Statement] = {}
        """Those that were used before."""

    def get(self, sql: str) -> Statement:
        statement = self.by_sql.get(sql)
        if statement is None:
            statement = self.by_sql[sql] = Statement(sql)
        return statement


def _number(sql: str) -> tuple[tuple[str, ...], str]:
    numbers: dict[str, int] = {}

    def replace(match: re.Match[str]) -> str:
        name, percent, other = match.groups()
        if percent:
            return "%"
        if name is None:
            raise ValueError(f"write %% for a percent sign (found %{other}): {sql}")
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    text = _PLACEHOLDER.sub(replace, sql).strip()
    return tuple(numbers), text


def _is_write(text: str) -> bool:
    start = _COMMENTS.match(text)
    rest = _LITERALS.sub("''", text[start.end() :] if start else text)
    if not _READS.match(rest):
        return True
    return bool(_WRITES.search(_LOCKS.sub("", rest))) or bool(_LOCKS.search(rest))
