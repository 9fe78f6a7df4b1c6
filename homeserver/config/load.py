"""From a YAML file and the environment to a `Config`, or to every mistake at once, each with its path."""

from __future__ import annotations

import difflib
import itertools
import os
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from typing_extensions import override

from homeserver.config.root import Config, contradictions

PREFIX = "ATRIUM__"


class ConfigError(Exception):
    """The configuration cannot be used. `mistakes` are pairs of path ("listeners.0.port") and sentence."""

    def __init__(self, source: str, mistakes: Iterable[tuple[str, str]]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        super().__init__(str(self))

    @override
    def __str__(self) -> str:
        lines = [f"  {path}: {sentence}" if path else f"  {sentence}" for path, sentence in self.mistakes]
        return "\n".join([f"{self.source} cannot be used:", *lines])


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read a file, then let `ATRIUM__SECTION__KEY` variables override it.

    Raises:
        ConfigError: with all mistakes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(str(path), [("", f"it cannot be read: {reason}")]) from None
    found = parse(text, source=str(path), base=path.absolute().parent, environment=environment)
    return found.read_from(path.absolute())


def parse(text: str, *, source: str, base: Path, environment: Mapping[str, str] | None = None) -> Config:
    """As `load`, from text; relative paths start at `base`."""
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader that also refuses keys said twice
    except yaml.YAMLError as error:
        raise ConfigError(source, [("", f"it is not YAML: {' '.join(str(error).split())}")]) from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(source, [("", "a mapping of sections is expected: server: …")])
    variables, nowhere = _override(raw, os.environ if environment is None else environment)
    return build(raw, source=source, base=base, variables=variables, mistakes=nowhere)


def build(
    raw: dict[str, Any],
    *,
    source: str,
    base: Path,
    variables: Mapping[str, str] | None = None,
    mistakes: Sequence[tuple[str, str]] = (),
) -> Config:
    """Validate what was read. `variables` tells which paths came from which environment variable, `mistakes` what is
    known to be wrong already.
    """
    context = {"base": base}
    found = list(mistakes)
    try:
        config = Config.model_validate(raw, context=context)
    except ValidationError as error:
        found += [_sentence(dict(each)) for each in _causes(error)]
        found += contradictions(_valid_sections(raw, context))
    else:
        found += contradictions({name: getattr(config, name) for name in Config.model_fields})
        if not found:
            return config
    origin = variables or {}
    raise ConfigError(
        source,
        [(f"{path} (from {origin[path]})" if path in origin else path, sentence) for path, sentence in found],
    )


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # which one is known at run time
    """YAML without objects, in which no key may be said twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is said twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def _override(
    raw: dict[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Put ATRIUM__A__B=value at a.b; the value is read as YAML. A number is a place in a list, which is made if need be.

    Returns which path came from which variable, and as mistakes those that lead nowhere: past the end of a list, or into
    what has no parts.
    """
    sources: dict[str, str] = {}
    nowhere: list[tuple[str, str]] = []
    for variable in sorted(environment):
        if not variable.startswith(PREFIX):
            continue
        path = variable[len(PREFIX) :].lower().split("__")
        try:
            value = yaml.load(environment[variable], Loader=_Loader)  # noqa: S506  # see above
        except yaml.YAMLError:
            value = environment[variable]
        place: Any = raw
        for step, following in itertools.pairwise(path):
            place = _enter(place, step, [] if following.isdigit() else {})
        if not _set(place, path[-1], value):
            nowhere.append((".".join(path), "there is no such option"))
        sources[".".join(path)] = variable
    return sources, nowhere


def _enter(place: Any, step: str, empty: Any) -> Any:
    """What is at `step`, made `empty` if it is not there; None if nothing can be there."""
    if isinstance(place, list):
        if not step.isdigit() or int(step) > len(place):
            return None
        if int(step) == len(place):
            place.append(empty)
        return place[int(step)]
    if not isinstance(place, dict):
        return None
    if place.get(step) is None:
        place[step] = empty
    return place[step]


def _set(place: Any, step: str, value: Any) -> bool:
    if isinstance(place, list):
        if not step.isdigit() or int(step) > len(place):
            return False
        place[int(step) : int(step) + 1] = [value]
        return True
    if not isinstance(place, dict):
        return False
    place[step] = value
    return True


def _valid_sections(raw: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    valid: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        if name not in raw:
            if not field.is_required():
                valid[name] = field.default
            continue
        try:
            annotation: Any = field.annotation
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            valid[name] = adapter.validate_python(raw[name], context=context)
        except ValidationError:
            continue
    return valid


def _causes(error: ValidationError) -> list[dict[str, Any]]:
    """Pydantic's findings, without those that only follow from others (a list too short for its wrong items)."""
    found = [dict(each) for each in error.errors(include_url=False)]
    places = [each["loc"] for each in error.errors(include_url=False)]

    def follows(each: dict[str, Any]) -> bool:
        place: tuple[int | str, ...] = each["loc"]
        return each["type"] == "too_short" and any(
            len(p) > len(place) and p[: len(place)] == place for p in places
        )

    return [each for each in found if not follows(each)]


def _sentence(error: dict[str, Any]) -> tuple[str, str]:
    """Pydantic's finding as (path, sentence)."""
    location = [part for part in error["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    path = ".".join(str(part) for part in location)
    kind, given = error["type"], error.get("input")
    if kind == "missing":
        return path, "is missing"
    if kind == "extra_forbidden":
        return path, f"there is no such option{_suggest(location)}"
    message: str = error["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(given, dict | BaseModel):
        inner, colon, rest = message.partition(": ")
        return (f"{path}.{inner}", rest) if colon and " " not in inner else (path, message)
    if kind != "value_error":
        message = message[0].lower() + message[1:].replace("tuple", "list").replace("dictionary", "mapping")
    if isinstance(given, str | int | float | bool) and not _secret(path):
        message += f" (it is {given!r})"
    return path, message


def _secret(path: str) -> bool:
    last = path.rsplit(".", 1)[-1]
    return any(word in last for word in ("secret", "password", "key", "token", "url"))


def _suggest(location: list[Any]) -> str:
    model: Any = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = (
            model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        )
        model = _model_in(field.annotation) if field is not None else None
    if model is None:
        return ""
    near = difflib.get_close_matches(str(location[-1]), model.model_fields, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(model.model_fields)}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        if (model := _model_in(inner)) is not None:
            return model
    return None
