"""No option promises what nobody does: each is read somewhere outside the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from homeserver.config import Config

PACKAGE = Path(__file__).parents[3] / "homeserver"
OTHERS = [PACKAGE.parent / "federation", PACKAGE.parent / "appservices"]


def options(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, name) of every option that is no section."""
    for name, field in model.model_fields.items():
        where = f"{path}{name}"
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from options(inner, f"{where}.")
        else:
            yield where, name


CODE = "\n".join(
    path.read_text()
    for package in (PACKAGE, *OTHERS)
    for path in package.rglob("*.py")
    if PACKAGE / "config" not in path.parents
) + "\n".join(path.read_text() for path in (PACKAGE / "config").glob("*.py"))


@pytest.mark.parametrize(("path", "name"), sorted(options(Config)), ids=str)
def test_an_option_is_read(path: str, name: str) -> None:
    # Rate limits are named where they apply; networks are taken by purpose.
    whole = path.split(".")[-2] if "." in path else name
    read = rf'\.{name}\b|limit="{name}"|"{name}"[,)\n]|getattr\([^)]*\b{whole}\b'
    assert re.search(read, CODE), f"{path} is read by nothing"
