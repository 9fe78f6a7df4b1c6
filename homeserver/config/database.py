"""Where the server keeps everything."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from homeserver.config.base import Duration, Section


def _is_postgres(url: str) -> str:
    if "://" in url and not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("PostgreSQL is expected: postgresql://user:password@host:5432/atrium")
    from psycopg import ProgrammingError, conninfo  # here: most configurations name none

    try:
        parts = conninfo.conninfo_to_dict(url)
    except ProgrammingError as error:
        raise ValueError(_why(str(error).strip())) from None
    several = "," in str(parts.get("hostaddr") or parts.get("host") or "")
    if several and parts.get("target_session_attrs") not in {"read-write", "primary"}:
        raise ValueError(
            "of several hosts only the primary can be written to: add target_session_attrs=read-write"
        )
    return url


def _why(reason: str) -> str:
    """What libpq says, unless it would repeat the password."""
    if "percent-encoded" in reason:
        return "a % in it must be written as %25"
    if 'missing "="' in reason:
        return "neither postgresql://user:password@host:5432/atrium nor pairs of key=value"
    return f"it cannot be read: {reason}"


class DatabaseSection(Section):
    """PostgreSQL: the embedded one, or yours."""

    url: Annotated[str, AfterValidator(_is_postgres)] | None = Field(
        default=None,
        examples=["postgresql://atrium:password@db.example.com/atrium?sslmode=verify-full"],
        repr=False,
    )
    """Your own PostgreSQL, 15 or newer. Leave it out, and Atrium runs the one it carries, under data_dir. A primary and its
    standbys are named together: postgresql://a.example.com,b.example.com/atrium?target_session_attrs=read-write."""

    pool_size: int = Field(default=10, ge=2, le=200)
    """Connections of each process at most."""

    statement_timeout: Duration = Field(default=30.0, ge=1)
    """A statement that takes longer is given up."""

    lock_timeout: Duration = Field(default=10.0, ge=1)
    """A statement that waits longer for another one is given up."""

    shared: bool = False
    """Servers on other hosts serve from this database too. Each then looks there before it answers from memory."""
