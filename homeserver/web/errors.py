"""The one place where an exception becomes a response.

spec: client-server-api/#standard-error-response
"""

from __future__ import annotations

import msgspec
import psycopg
import structlog

from homeserver.matrix.errors import (
    InvalidParam,
    MatrixError,
    ResourceLimitExceeded,
    ServerFault,
    Unavailable,
)
from homeserver.storage.database import DatabaseOverloaded
from homeserver.storage.errors import OutcomeUnknown
from homeserver.web.response import JSON, Reply
from homeserver.web.stream import BodyTimeout

_log = structlog.get_logger("atrium.web")
_encode = msgspec.json.Encoder().encode


def reply_to(error: BaseException, request_id: str, operation: str, contact: str | None = None) -> Reply:
    """The answer to a request that ended with this exception.

    What was not raised as an answer is logged here, once, with its traceback; the client is told the request id and
    nothing else. `contact`: where to turn to when a limit of the server is reached (API-11).
    """
    if not isinstance(error, MatrixError):
        error = _unforeseen(error, request_id, operation)
    if contact is not None and isinstance(error, ResourceLimitExceeded):
        error.fields.setdefault("admin_contact", contact)
    headers = dict(error.headers)
    if error.http_status >= 500:
        headers["X-Request-Id"] = request_id
    if isinstance(error, BodyTimeout):
        headers["Connection"] = "close"
    return Reply(error.http_status, _encode(error.to_json()), JSON, headers)


def _unforeseen(error: BaseException, request_id: str, operation: str) -> MatrixError:
    if isinstance(error, psycopg.DataError):
        # A value that the edge let through and no column can hold (U+0000, a number beyond bigint): the request's
        # fault, but ours that it came so far, hence the log line.
        _log.warning("value_refused_by_database", request_id=request_id, operation=operation, exc_info=error)
        return InvalidParam("A value in this request cannot be stored")
    if isinstance(error, psycopg.OperationalError | DatabaseOverloaded | OutcomeUnknown):
        if _is_away(error):
            why = str(error).partition("\n")[0]
            _log.warning("database_away", request_id=request_id, operation=operation, error=why)
        else:
            _log.error("database_unavailable", request_id=request_id, operation=operation, exc_info=error)
        full = isinstance(error, psycopg.errors.DiskFull)
        what = (
            "The server has no room left to write" if full else "The database does not answer for the moment"
        )
        refusal = Unavailable(f"{what} (request {request_id})")
        refusal.headers["Retry-After"] = "2"
        return refusal
    _log.error("request_failed", request_id=request_id, operation=operation, exc_info=error)
    return ServerFault(f"Internal server error (request {request_id})")


def _is_away(error: psycopg.OperationalError | DatabaseOverloaded | OutcomeUnknown) -> bool:
    """Whether the database is stopped, starting, busy or out of room: then every request fails, and where is of no matter."""
    if (
        isinstance(error, DatabaseOverloaded | OutcomeUnknown) or error.sqlstate is None
    ):  # not connected, or no longer
        return True
    # Connection exceptions; no memory, disk or connections left; PostgreSQL stops or starts; the disk itself fails.
    return error.sqlstate.startswith(("08", "53", "57P", "58"))
