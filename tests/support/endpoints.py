"""The endpoints that the source code declares, and those the specification wants of a homeserver."""

import csv
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import appservices
import federation
import homeserver
from homeserver.web.endpoint import Endpoint
from homeserver.web.registry import endpoints_of

Row = dict[str, str]


def declared() -> list[Endpoint]:
    """Every endpoint that a class of ours declares, whether or not the app wires it up."""
    found: dict[int, Endpoint] = {}
    for root in (homeserver, federation, appservices):
        for module in _modules(root):
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == module.__name__:
                    found |= {id(endpoint): endpoint for endpoint in endpoints_of(value)}
    return list(found.values())


def wanted(folder: Path) -> list[Row]:
    """The rows of `folder`/endpoints.tsv that a homeserver has to serve (`hs_role` server or both)."""
    with (folder / "endpoints.tsv").open(encoding="utf-8") as table:
        return [row for row in csv.DictReader(table, delimiter="\t") if row["hs_role"] in ("server", "both")]


def shape(template: str) -> str:
    """The template with its parameters' names left out: two templates of one shape are one path."""
    return re.sub(r"\{\w+\}", "{}", template)


def served(rows: list[Row], endpoints: list[Endpoint]) -> set[tuple[str, str]]:
    """(method, path) of those rows that one of the endpoints serves."""
    shapes = {(endpoint.method, shape(path)) for endpoint in endpoints for path in endpoint.paths}
    return {(row["method"], row["path"]) for row in rows if (row["method"], shape(row["path"])) in shapes}


def sample_path(template: str) -> str:
    """A path that fits the template."""
    return re.sub(r"\{\w+\}", "something", template)


def _modules(root: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)
