"""Histories that once told us apart from Synapse: replayed first, for good.

A history is a list of `Step`s as plain lists; `histories._KINDS` may only grow at its end, or they mean something else. The
first ones here are those on which the letter of the specification and all deployed servers part (docs/differences.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.histories import Step

_FILE = Path(__file__).with_name("seeds.json")


def remembered(version: str) -> list[list[Step]]:
    """The histories kept for a room version, and those kept for all of them."""
    kept: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return [[Step(*step) for step in history] for history in kept.get(version, []) + kept.get("all", [])]
