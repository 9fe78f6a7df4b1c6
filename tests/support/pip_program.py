"""Programs from the Python package index, each in an environment of its own below `.cache/interop`, made when first asked for."""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "interop"


def installed(name: str, *requirements: str) -> Path:
    """The folder of the commands of an environment in which these are installed; skips the test where they cannot be had."""
    folder = FOLDER / f"{name}-venv"
    mark = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
    finished = folder / f"{mark}.installed"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            try:
                subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
                command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements]
                subprocess.run(command, check=True, capture_output=True, timeout=600)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"{name} cannot be installed here: {error}")
            finished.touch()
    return folder / "bin"
