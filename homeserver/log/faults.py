"""Why a batch could not be written: what one of its appends is to blame for, and what has befallen all of them.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

import psycopg

from homeserver.storage.errors import StorageError

_LIMITS = "54"
"""Class of SQLSTATE: a row that is too large for its index is somebody's, though psycopg counts it as operational."""
_ROLLED_BACK = "40"
"""Class of SQLSTATE: deadlocks and the like, which are over when it is tried again."""


def is_of_one(error: Exception) -> bool:
    """Whether the batch would pass without the append to blame: a unique name that is taken, a value out of range, a fault
    of a sink. Else the database is away, full, or shutting down, and says the same to every append.
    """
    if isinstance(error, psycopg.OperationalError):
        return (error.sqlstate or "").startswith(_LIMITS)
    return not isinstance(error, StorageError | OSError)


def passes_when_repeated(error: BaseException) -> bool:
    """Whether nothing was wrong with it but the moment."""
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate or "").startswith(_ROLLED_BACK)


def copy_of(error: Exception) -> Exception:
    """The same error for another task: what is raised in several places gathers the traces of all of them."""
    if isinstance(error, psycopg.OperationalError | StorageError):
        return type(error)(*error.args)
    return error
