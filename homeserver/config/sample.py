"""Renders `config.sample.yaml` from the models: every option, its default and what its docstring says."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from homeserver.config.root import Config

_WIDTH = 100
_DURATIONS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SIZES = ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))
_HEAD = """\
# Configuration of Atrium. Everything but server.name has a default, shown here behind a #.
# Durations: 500ms, 30s, 5m, 2h, 7d, 4w, 1y. Sizes: 512K, 50M, 2G. A relative path starts at this file.
# Each option can be overridden by a variable: ATRIUM__SERVER__NAME=example.com, ATRIUM__LISTENERS__0__PORT=8448.
# `atrium config check --config FILE` names all mistakes. Rendered from the code: do not edit config.sample.yaml.
"""


def render_sample(
    server_name: str = "example.com", data_dir: str = "", port: int = 0, address: str = ""
) -> str:
    """The whole file as text; loads as it is, with every option that is not given here at its default."""
    lines = [_HEAD]
    given: dict[str, dict[str, Any]] = {
        "server": {"name": server_name} | ({"data_dir": data_dir} if data_dir else {}),
        "listeners": {"address": address or "127.0.0.1", "port": port or 8008} if port or address else {},
    }
    for name, field in Config.model_fields.items():
        lines += ["", *_comment(_docstrings(Config).get(name, ""), "")]
        lines += _section(name, field, given.get(name, {}))
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, field: FieldInfo, given: dict[str, Any]) -> Iterator[str]:
    model = _model_of(field.annotation)
    if name == "server":
        yield "server:"
        yield from _options(model, "  ", given=given)
    elif name == "listeners":
        yield "listeners:" if given else "#listeners:"
        yield from _options(model, "    ", given=given, first="  - ")
    else:
        yield f"#{name}:"
        yield from _options(model, "  ")


def _options(
    model: type[BaseModel], indent: str, *, given: dict[str, Any] | None = None, first: str = ""
) -> Iterator[str]:
    given = given or {}
    sentences = _docstrings(model)
    for name, field in model.model_fields.items():
        lead, first = (first, "") if first else (indent, "")
        yield from _comment(sentences.get(name, ""), indent)
        inner = _model_of(field.annotation)
        default = given.get(name, _default(field))
        off = "" if name in given else "#"
        if isinstance(default, BaseModel) and not _is_flow(default):
            yield f"{off}{lead}{name}:"
            yield from _options(inner, indent + "  ")
        else:
            yield f"{off}{lead}{name}: {_yaml(_as_people_write(default, field))}".rstrip()


def _default(field: FieldInfo) -> Any:
    if field.examples:
        return field.examples[0]
    if field.default_factory is not None:
        return field.default_factory()  # type: ignore[call-arg]  # ours take no argument
    return "" if field.default is PydanticUndefined else field.default


def _as_people_write(value: Any, field: FieldInfo) -> Any:
    """604800 seconds are 7d, 52428800 bytes are 50M."""
    kinds = str(field.annotation) + str(field.metadata)
    for kind, units in (("_duration", _DURATIONS), ("_size", _SIZES)):
        if kind in kinds and isinstance(value, int | float):
            for factor, letter in units:
                if value and value % factor == 0:
                    return f"{int(value // factor)}{letter}"
    return value


def _is_flow(value: BaseModel) -> bool:
    """A small model without sentences of its own worth repeating (a rate) stands on one line."""
    return len(type(value).model_fields) <= 2


def _yaml(value: Any) -> str:
    def plain(item: Any) -> Any:
        match item:
            case BaseModel():
                return {name: plain(getattr(item, name)) for name in type(item).model_fields}
            case SecretStr():
                return item.get_secret_value()
            case Path():
                return str(item)
            case frozenset() | set():
                return sorted(plain(each) for each in item)
            case tuple() | list():
                return [plain(each) for each in item]
            case float() if item.is_integer():
                return int(item)
            case _:
                return item

    return (
        yaml.safe_dump(plain(value), default_flow_style=True, width=10_000)
        .removesuffix("\n")
        .removesuffix("\n...")
    )


def _comment(sentence: str, indent: str) -> list[str]:
    text = " ".join(sentence.split())
    return [f"{indent}# {line}" for line in textwrap.wrap(text, _WIDTH - len(indent))]


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in typing.get_args(annotation) if (model := _model_of(inner))), None)


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string under each attribute; read from the source, so that starting the server need not."""
    tree = ast.parse(inspect.getsource(sys.modules[model.__module__]))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == model.__name__:
            return {
                before.target.id: after.value.value
                for before, after in zip(node.body, node.body[1:], strict=False)
                if isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            }
    return {}
