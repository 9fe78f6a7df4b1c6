"""What all sections of the configuration share: strictness, and how people write durations and sizes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo

_DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Section(BaseModel):
    """A part of the configuration: immutable, and nothing in it that is not declared."""

    # A password of digits alone is a number to YAML.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


def _duration(value: Any) -> Any:
    match = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|y)\s*", value) if isinstance(value, str) else None
    )
    if match is not None:
        return float(match[1]) * _DURATION_UNITS[match[2]]
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise ValueError("write a duration: a number of seconds, or 500ms, 30s, 5m, 2h, 7d, 4w, 1y")


def _size(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)(?:i?B)?\s*", value)
        if match is None:
            raise ValueError("write a size: a number of bytes, or 512K, 50M, 2G")
        value = int(match[1]) * _SIZE_UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("write a size: a number of bytes, or 512K, 50M, 2G")
    return value


def _from_file(path: Path, info: ValidationInfo) -> Path:
    """A relative path starts at the folder of the configuration file."""
    base = (info.context or {}).get("base", Path())
    return Path(base, path.expanduser()).absolute()


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


Duration = Annotated[float, BeforeValidator(_duration)]
"""Seconds."""

Size = Annotated[int, BeforeValidator(_size)]
"""Bytes."""

AnyPath = Annotated[Path, AfterValidator(_from_file)]
"""A path, made absolute: a relative one starts at the folder of the configuration file."""

ReadableFile = Annotated[Path, AfterValidator(_from_file), AfterValidator(_readable)]
"""A file that exists and may be read when the configuration is loaded."""
