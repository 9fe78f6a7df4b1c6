"""Saying once what goes wrong again and again.

A database that is away fails every loop every few seconds: a line for the first failure and one when it is over say all.
"""

from __future__ import annotations

from typing import Any

import psycopg

from homeserver.storage.errors import StorageError

_EXPECTED = (psycopg.OperationalError, StorageError, OSError, TimeoutError)
"""What the world outside brings about; of anything else the log gets a traceback."""
_MAX_TEXT = 300


def cause_of(error: BaseException) -> str:
    """What is wrong, the same for the same kind of failure, without values: `OperationalError 57P01`."""
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


class Causes:
    """The failures of one thing that is tried again and again."""

    def __init__(self, log: Any, event: str, **fields: Any) -> None:
        """`log`: a structlog logger; `event` and `fields`: what each line has."""
        self._log = log
        self._event = event
        self._fields = fields
        self._cause: str | None = None
        self._failures = 0

    def tell(self, error: BaseException, **fields: Any) -> None:
        """One more failure; logged if the one before had another cause, or there was none."""
        self._failures += 1
        cause = cause_of(error)
        if cause == self._cause:
            return
        self._cause = cause
        told = {**self._fields, **fields, "cause": cause}
        if isinstance(error, _EXPECTED):
            self._log.warning(self._event, **told, error=str(error).strip()[:_MAX_TEXT])
        else:
            self._log.error(self._event, **told, exc_info=error)

    def over(self) -> None:
        """It has gone well."""
        if self._cause is not None:
            self._log.info(f"{self._event}_no_more", **self._fields, failures=self._failures)
            self._cause, self._failures = None, 0
