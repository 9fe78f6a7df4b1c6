"""Lines are structured, carry their context, and never a secret."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from homeserver.runtime.logging import REDACTED, setup_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configured = root.handlers, root.level, structlog.get_config()
    yield
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()
    root.handlers = handlers
    root.setLevel(level)


def test_a_line_is_one_json_object_with_its_context(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(level="info", style="json", worker=3)
    structlog.contextvars.bind_contextvars(request_id="r-1")
    log = structlog.get_logger("x")
    log.debug("too detailed")
    log.info("room_created", room="!a:b", count=2, odd={1, 2}.__class__)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert line["event"] == "room_created"
    assert (line["level"], line["worker"], line["request_id"], line["room"]) == ("info", 3, "r-1", "!a:b")
    assert "time" in line


@pytest.mark.parametrize("style", ["json", "console"])
def test_values_named_after_secrets_are_not_written(capsys: pytest.CaptureFixture[str], style: str) -> None:
    setup_logging(style=style)  # type: ignore[arg-type]
    structlog.get_logger("x").warning(
        "slip",
        access_token="s3cret",
        password="s3cret",
        content="s3cret",
        Authorization="s3cret",
        user="@a:b",
    )
    said = capsys.readouterr().err
    assert "s3cret" not in said
    assert said.count(REDACTED) == 4
    assert "@a:b" in said


def test_what_libraries_say_comes_out_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(level="info", style="json")
    logging.getLogger("some.package").warning("careful: %s", "thin ice")
    logging.getLogger("some.package").info("chatter")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["careful: thin ice"]


def test_an_exception_is_one_line_without_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(style="json")
    hidden = "s3cret"
    try:
        int(f"wrong length: {len(hidden)}")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "wrong length: 6" in json.loads(lines[0])["exception"]
    assert "s3cret" not in lines[0]
