"""What the server says while it runs: one structured line per fact, on standard error.

Context (request id, user, room) is bound at the edges with `structlog.contextvars` and appears on every line below.
Tokens, passwords and what people write are never logged; a processor removes values whose key says they are secret,
should one slip in.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import msgspec
import structlog

from homeserver.runtime.request_context import add_request_id

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

REDACTED = "[redacted]"
_SECRET_WORDS = (
    "password",
    "secret",
    "token",
    "authorization",
    "cookie",
    "signature",
    "private_key",
    "body",
    "content",
)
_NOT_SECRET = frozenset({"content_type", "content_length", "body_size", "token_nid", "token_kind"})

_encode = msgspec.json.Encoder(enc_hook=str, order="deterministic").encode


def setup_logging(*, level: Level = "info", style: Format = "auto", worker: int | None = None) -> None:
    """Decide once per process what is written and how. `worker` is named on every line where there are several."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        structlog.processors.add_log_level,
        redact,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if worker is not None:
        shared.insert(0, _name_worker(worker))
    last: list[Any] = (
        [structlog.processors.format_exc_info, _json_line]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                sort_keys=False,
                exception_formatter=structlog.dev.plain_traceback,  # the default shows local variables: tokens, texts
            )
        ]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _adopt_library_logs(
        [*shared, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last], max(threshold, 30)
    )


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the values of keys that name a secret."""
    for key, value in event.items():
        if (
            value is not None
            and key not in _NOT_SECRET
            and any(word in key.lower() for word in _SECRET_WORDS)
        ):
            event[key] = REDACTED
    return event


def _json_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    return _encode(event).decode()


def _name_worker(number: int) -> Any:
    def name(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("worker", number)
        return event

    return name


def _adopt_library_logs(processors: list[Any], threshold: int) -> None:
    """What libraries say through `logging` comes out in the same form; only what matters of it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=processors))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
