"""The specification's own YAML: where it lies, reading it, and writing its `$ref`s out in place.

The specification is not part of this repository. It is looked for in `MATRIX_SPEC_DIR`, else in
`../shared/matrix-spec` beside the checkout; whoever needs it and finds none skips, and says so.
"""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ABSENT = "the Matrix specification's data is not here: set MATRIX_SPEC_DIR (see docs/conformance.md)"

# Words that describe a schema without constraining what it accepts: dropped, so that compiled schemas stay small
# and a `$ref` with nothing but a description beside it is simply replaced by what it names.
_EXAMPLES = frozenset({"example", "examples"})
_ANNOTATIONS = frozenset({"description", "title", "summary", "deprecated", "externalDocs"}) | _EXAMPLES


class SpecError(Exception):
    """The specification's data is not what this reader understands (a bug here, or a new release)."""


def spec_dir() -> Path | None:
    """The folder with `data/`, `endpoints.tsv` and `CHECKLIST.md`; None where it is absent."""
    named = os.environ.get("MATRIX_SPEC_DIR")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "matrix-spec"
    return folder if (folder / "data" / "api").is_dir() else None


@functools.cache
def read(path: Path) -> Any:
    """One YAML or JSON file as plain values."""
    text = path.read_text(encoding="utf-8")
    # spec data, read-only, from a folder the developer named; the C loader is 10x faster than the Python one
    return json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=yaml.CSafeLoader)


def api_documents(folder: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Every OpenAPI document as (api name such as `client-server`, its path, its content)."""
    for path in sorted((folder / "data" / "api").glob("*/*.yaml")):
        document = read(path)
        if isinstance(document, dict) and "paths" in document:
            yield path.parent.name, path, document


def inline(node: Any, path: Path, *, example: bool = False, trail: tuple[str, ...] = ()) -> Any:
    """`node`, found in file `path`, with every `$ref` replaced by a copy of what it names.

    Beside a `$ref`, a schema's other keywords hold as well (`allOf`), while an example's override the named one's.
    A schema that contains itself is cut at its second occurrence, where anything is accepted.
    """
    if isinstance(node, list):
        return [inline(item, path, example=example, trail=trail) for item in node]
    if not isinstance(node, dict):
        return node
    if not isinstance(node.get("$ref"), str):
        return {
            key: inline(value, path, example=example or key in _EXAMPLES, trail=trail)
            for key, value in node.items()
        }
    target_path, pointer = _resolve(node["$ref"], path)
    step = f"{target_path}#{pointer}"
    if step in trail:
        return {}
    target = inline(_point(read(target_path), pointer), target_path, example=example, trail=(*trail, step))
    beside = {key: value for key, value in node.items() if key != "$ref"}
    if not isinstance(target, dict) and not beside:
        return target
    if isinstance(target, dict) and (example or not beside.keys() - _ANNOTATIONS):
        return {**target, **inline(beside, path, example=example, trail=trail)}
    return {"allOf": [target], **inline(beside, path, trail=trail)}


def schema_only(node: Any, *, in_names: bool = False) -> Any:
    """An inlined schema without its annotations; `in_names` marks maps whose keys are property names, not keywords."""
    if isinstance(node, list):
        return [schema_only(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: schema_only(value, in_names=not in_names and key in ("properties", "patternProperties"))
        for key, value in node.items()
        if in_names or not (key in _ANNOTATIONS or key.startswith("x-"))
    }


def _resolve(reference: str, path: Path) -> tuple[Path, str]:
    file, _, pointer = reference.partition("#")
    return (path if not file else (path.parent / unquote(file)).resolve()), pointer


def _point(document: Any, pointer: str) -> Any:
    for part in filter(None, pointer.split("/")):
        try:
            document = document[unquote(part).replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError) as error:
            raise SpecError(f"nothing at {pointer}") from error
    return document
