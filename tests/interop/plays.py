"""Running the plays in `js/`: npm packages on demand, a process per play, answers to what a play asks for.

The packages come from npm by the committed lock file into `.cache/interop/js` and stay there for the next run.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.support.spec import Exchange, problems_of

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "interop"
SOURCES = Path(__file__).parent / "js"
OLDEST_NODE = 20
INSTALL_SECONDS = 300

Asked = Mapping[str, Any]
Answer = Callable[[Asked], Awaitable[Mapping[str, Any]]]

_NO_ANSWERS: Mapping[str, Answer] = MappingProxyType({})


def need_node() -> None:
    """Skips the test where there is no Node, or one too old for matrix-js-sdk, or no npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node and npm are not installed: matrix-js-sdk runs nowhere else")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node {version.strip()} is too old for matrix-js-sdk: {OLDEST_NODE} is needed")


def install(sources: Path, folder: Path) -> Path:
    """Copies a folder of scripts to `folder` and installs what its lock file names, once per lock file.

    Safe to call from several processes at once. Raises RuntimeError with npm's own words when it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copytree(sources, folder, dirs_exist_ok=True)
        wanted = (sources / "package-lock.json").read_text()
        mark = folder / "node_modules" / ".installed-by-lock"
        if not mark.exists() or mark.read_text() != wanted:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
            if done.returncode:
                raise RuntimeError(f"npm ci failed in {folder}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
            mark.write_text(wanted)
    return folder


class Play:
    """One play in its own process, to the end. `seen` lists what it has seen come true, in its words."""

    def __init__(
        self,
        name: str,
        base_url: str,
        scratch: Path,
        answers: Mapping[str, Answer] = _NO_ANSWERS,
        other_url: str = "",
    ) -> None:
        """`other_url`: of a second server, that others live on."""
        self.name = name
        self.base_url = base_url
        self.answers = answers
        self.seen: list[str] = []
        self.transcript = scratch / f"{name}.http.jsonl"
        self._errors = scratch / f"{name}.stderr"
        self.environment = {
            **os.environ,
            "HOMESERVER_URL": base_url,
            "OTHER_HOMESERVER_URL": other_url,
            "HTTP_TRANSCRIPT": str(self.transcript),
        }

    def prepare(self) -> Path:
        """Gets the packages and scripts ready; answers the folder in which `plays/` lies."""
        return install(SOURCES, CACHE / "js")

    def command(self) -> list[str]:
        """What is started in that folder."""
        return ["node", f"plays/{self.name}.mjs"]

    async def run(self, seconds: float) -> None:
        """Runs it; an AssertionError tells what it missed, and what was said on the wire just before."""
        folder = await asyncio.to_thread(self.prepare)
        # the play can tell more of why it is late than we can
        environment = {**self.environment, "PLAY_SECONDS": str(seconds)}
        with self._errors.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *self.command(), cwd=folder, env=environment,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        try:
            async with asyncio.timeout(seconds + 10):
                done = await self._follow(process)
                status = await process.wait()
        except TimeoutError:
            raise AssertionError(self._account("did not end, nor say why")) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if status or not done:
            raise AssertionError(self._account(f"ended with status {status}"))

    async def _follow(self, process: asyncio.subprocess.Process) -> bool:
        assert process.stdout is not None
        assert process.stdin is not None
        async for line in process.stdout:
            said = json.loads(line)
            if "seen" in said:
                self.seen.append(said["seen"])
            elif "ask" in said:
                process.stdin.write(json.dumps(await self._answer(said)).encode() + b"\n")
                with contextlib.suppress(ConnectionError):  # it has ended, and said why
                    await process.stdin.drain()
            else:
                return bool(said["done"])
        return False

    async def _answer(self, asked: Asked) -> Mapping[str, Any]:
        answer = self.answers.get(asked["ask"])
        if answer is None:
            return {"error": f"no answer prepared for {asked['ask']}"}
        return await answer(asked)

    def _account(self, how: str) -> str:
        steps = "".join(f"\n  saw: {step}" for step in self.seen)
        return f"play {self.name} {how}{steps}\n{self._errors.read_text(errors='replace')[-12000:]}"

    def exchanges(self) -> list[dict[str, Any]]:
        """What was said on the wire, a request with its answer each."""
        # not `splitlines`: JSON may have other signs in it that end a line
        return [json.loads(line) for line in self.transcript.read_text().split("\n") if line]

    def broken_contract(self) -> list[str]:
        """What the specification's schemas say against the answers this play was given by the first server, each kind once."""
        found: dict[str, None] = {}
        for said in self.exchanges():
            if not said["status"] or said.get("server", self.base_url) != self.base_url:
                continue  # no answer came, or none of ours
            headers = {"content-type": said["type"]} if said["type"] else {}
            exchange = Exchange(
                said["method"],
                said["path"],
                said["status"],
                said["response"].encode(),
                query=dict(parse_qsl(said["query"].removeprefix("?"))),
                headers=headers,
            )
            for problem in problems_of(exchange):
                found[f"{said['method']} {said['path']}: {problem}"] = None
        return list(found)
