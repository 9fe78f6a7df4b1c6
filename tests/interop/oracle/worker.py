"""Runs inside Synapse's environment and answers questions with Synapse's own functions: JSON lines in, JSON lines out.

A request is `[operation, arguments]`; `rules.resolve` is the function `resolve` of `rules_operations.py` beside this file.
An answer is `["ok", result]`, or `["error", text]` when the function raised something it does not account for.
"""

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer until the input ends."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    # Whatever a library prints must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = ["ok", operation(name)(arguments)]
        except Exception:  # noqa: BLE001 - whatever Synapse raises is an answer
            answer = ["error", traceback.format_exc()]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def operation(name: str) -> Callable[[Any], Any]:
    module, function = name.split(".")
    found: Callable[[Any], Any] = getattr(importlib.import_module(f"{module}_operations"), function)
    return found


if __name__ == "__main__":
    main()
