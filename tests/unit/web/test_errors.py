"""The one place where an exception becomes a response."""

import json

import psycopg
import pytest
from structlog.testing import capture_logs

from homeserver.matrix.errors import Forbidden, LimitExceeded, ResourceLimitExceeded, UserLimitExceeded
from homeserver.storage.database import DatabaseOverloaded
from homeserver.web.errors import reply_to


def test_an_error_keeps_its_status_code_fields_and_headers() -> None:
    """API-01, API-08"""
    reply = reply_to(LimitExceeded(1500), "r-1", "op")
    assert reply.status == 429
    assert json.loads(reply.body) == {
        "errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests", "retry_after_ms": 1500,
    }  # fmt: skip
    assert dict(reply.headers or {}) == {"Retry-After": "2"}
    assert reply_to(Forbidden("no", status=404), "r-1", "op").status == 404


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (ResourceLimitExceeded("full", admin_contact="mailto:a@b"), "admin_contact"),
        (UserLimitExceeded("full", info_uri="https://a", can_upgrade=False), "info_uri"),
    ],
)
def test_a_limit_of_the_server_says_where_to_turn(error: Exception, field: str) -> None:
    """API-11, API-12"""
    assert field in json.loads(reply_to(error, "r-1", "op").body)


def test_what_nobody_foresaw_is_logged_once_and_told_to_nobody() -> None:
    with capture_logs() as lines:
        reply = reply_to(RuntimeError("password is hunter2"), "r-1", "op")
    assert reply.status == 500
    assert b"hunter2" not in reply.body
    assert (reply.headers or {})["X-Request-Id"] == "r-1"
    assert [(line["event"], line["request_id"], line["operation"]) for line in lines] == [
        ("request_failed", "r-1", "op")
    ]


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("connection lost"),
        psycopg.errors.AdminShutdown("terminating connection"),
        psycopg.errors.CannotConnectNow("the database system is starting up"),
        DatabaseOverloaded("busy"),
    ],
)
def test_a_database_that_is_away_is_said_to_be_so(error: Exception) -> None:
    with capture_logs() as lines:
        reply = reply_to(error, "r-1", "op")
    assert (reply.status, (reply.headers or {})["Retry-After"]) == (503, "2")
    assert b"connection lost" not in reply.body
    (line,) = lines
    assert (line["log_level"], line["error"]) == ("warning", str(error))
    assert "exc_info" not in line, "every request fails now: a traceback each would hide everything else"


def test_a_statement_the_database_gave_up_has_its_traceback() -> None:
    with capture_logs() as lines:
        reply = reply_to(psycopg.errors.QueryCanceled("statement timeout"), "r-1", "op")
    assert reply.status == 503
    assert [(line["log_level"], "exc_info" in line) for line in lines] == [("error", True)]


def test_a_value_no_column_can_hold_is_the_request_s_fault() -> None:
    with capture_logs() as lines:
        reply = reply_to(
            psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), "r-1", "op"
        )
    assert (reply.status, json.loads(reply.body)["errcode"]) == (400, "M_INVALID_PARAM")
    assert len(lines) == 1
