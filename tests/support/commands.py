"""Commands as a person gives them: in a process of their own, so that what servers under test log is no part of what they say."""

import asyncio
import json
import sys
from pathlib import Path

from tests.support.server import Server

PATIENCE = 120.0
"""Seconds that a command may take."""


def configured(server: Server, folder: Path) -> Path:
    """The configuration, in `folder`, of commands beside a server of the test."""
    assert server.app is not None
    section = {"name": "localhost", "data_dir": str(server.app.config.server.data_dir)}
    file = folder / "config.yaml"
    file.write_text(json.dumps({"server": section, "database": {"url": server.dsn, "shared": True}}))
    return file


async def atrium(*arguments: str, config: Path, status: int = 0) -> str:
    """What `atrium …` says: on standard output if it went well, else on standard error. It is to end with `status`."""
    ended, out, err = await run_atrium(*arguments, config=config)
    assert ended == status, f"{out}\n{err}"
    return (err if status else out).strip()


async def run_atrium(*arguments: str, config: Path) -> tuple[int, str, str]:
    """(status, standard output, standard error) of `atrium …`."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("atrium")), *arguments, "--config", str(config),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
