"""A new bot that runs: `atrium bot new NAME`."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Final

from appservices.bots import registration
from appservices.bots.errors import NotConfigured

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_FILES: Final = ("bot.py", "test_bot.py", "README.md")


def write(name: str, folder: Path, url: str) -> list[Path]:
    """A folder with a bot, its test, its registration, and how it runs; the files.

    `url`: where its homeserver will reach it. Raises `NotConfigured`.
    """
    if not _NAME.fullmatch(name):
        raise NotConfigured(
            "A bot's name is made of a-z, 0-9 and -, begins with a letter, and has 32 characters at most"
        )
    if folder.exists() and any(folder.iterdir()):
        raise NotConfigured(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    template = resources.files("appservices.bots") / "template"
    written = []
    for file in _FILES:
        path = folder / file
        path.write_text(
            (template / f"{file}.txt").read_text(encoding="utf-8").replace("NAME", name), encoding="utf-8"
        )
        written.append(path)
    path = folder / "registration.yaml"
    registration.write(path, registration.new(name, url))
    return [*written, path]
