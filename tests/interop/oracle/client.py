"""Asks Synapse's own functions: one long-lived process in Synapse's environment, one JSON line a question."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.synapse import ensure_environment

WORKER = Path(__file__).with_name("worker.py")


class OracleError(Exception):
    """Synapse's function raised something unforeseen; carries the traceback."""


class Oracle:
    """A running worker; ends with the `with` block."""

    def __init__(self, python: Path | None = None) -> None:
        """Start the worker; creates Synapse's environment first if it is not there."""
        self._process = subprocess.Popen(
            [str(python or ensure_environment()), "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, operation: str, arguments: Any) -> Any:
        """The result of `module.function`, see `worker.py`. Raises `OracleError` with the traceback from there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([operation, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BaseException:
            self._process.kill()  # its answer to this would be taken for one to the next question
            raise
        if not line:
            raise OracleError(f"the oracle ended with {self._process.wait()}")
        outcome, result = json.loads(line)
        if outcome == "error":
            raise OracleError(result)
        return result

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
