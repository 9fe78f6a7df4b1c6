"""Running the application services in `js-bridges/`: their npm packages on demand, a Node process each, what they tell."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.interop.plays import CACHE, install, need_node

SOURCES = Path(__file__).parent / "js-bridges"
PATIENCE_SECONDS = 60.0

Told = dict[str, Any]


def packages() -> Path:
    """The folder with the drivers and the packages they need; skips the test where these cannot be had."""
    need_node()
    try:
        return install(SOURCES, CACHE / "js-bridges")
    except (OSError, RuntimeError) as error:
        pytest.skip(f"matrix-bot-sdk and matrix-appservice-bridge cannot be installed here: {error}")


@dataclass
class Driver:
    """An application service that runs. `told`: what it has told, in order."""

    log: Path
    told: list[Told] = field(default_factory=list)
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self, output: asyncio.StreamReader) -> None:
        """Reads what it tells until it ends."""
        async for line in output:
            if line.startswith(b"{"):
                self.told.append(json.loads(line))
                async with self._grown:
                    self._grown.notify_all()

    async def tells(self, what: str, **details: Any) -> Told:
        """Waits until it has told this, with these details; AssertionError if it does not within a minute."""

        def found() -> Told | None:
            return next(
                (each for each in self.told if each["tells"] == what and details.items() <= each.items()),
                None,
            )

        async with self._grown:
            try:
                await asyncio.wait_for(self._grown.wait_for(found), PATIENCE_SECONDS)
            except TimeoutError:
                said = self.log.read_text(errors="replace")[-4000:]
                raise AssertionError(
                    f"it never told {what} {details}, but {self.told[-8:]}\n{said}"
                ) from None
        answer = found()
        assert answer is not None
        return answer

    def failures(self) -> list[Told]:
        """What it could not do."""
        return [each for each in self.told if each["tells"] == "failed"]


@contextlib.asynccontextmanager
async def driving(*arguments: str, log: Path) -> AsyncIterator[Driver]:
    """Runs `node ARGUMENTS…` in the folder of the drivers until the block ends; it is ready when the block begins."""
    folder = await asyncio.to_thread(packages)
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            "node", *arguments, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=errors, limit=2**20
        )
    assert process.stdout is not None
    driver = Driver(log)
    following = asyncio.create_task(driver.follow(process.stdout))
    try:
        await driver.tells("ready")
        yield driver
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await following
