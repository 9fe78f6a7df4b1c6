"""What import-linter must refuse (its contracts stand in pyproject.toml), tried on a copy of the sources."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUPPORT = Path("tests/support/package_private.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for package in ("homeserver", "federation", "appservices"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.sql")
        )
    (folder / SUPPORT).parent.mkdir(parents=True)
    shutil.copy(ROOT / SUPPORT, folder / SUPPORT)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> tuple[int, str]:
    """Exit code, and what was said."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-logo",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_sources_keep_all_contracts(copy: Path) -> None:
    code, said = lint(copy)
    assert code == 0, said
    assert ", 0 broken" in said


@pytest.mark.parametrize(
    ("file", "text", "contract"),
    [
        ("homeserver/fresh/__init__.py", "", "every package stands in one"),
        ("homeserver/fresh.py", "", "every package stands in one"),
        ("homeserver/rooms/fresh.py", "from homeserver.devices import store", "SQL is imported"),
        ("homeserver/rooms/fresh.py", "from homeserver.devices.store import rename", "SQL is imported"),
        ("homeserver/push/fresh.py", "from homeserver.rooms.time_store import find_near", "SQL is imported"),
        ("homeserver/cli/fresh.py", "import homeserver.log.readers.store", "SQL is imported"),
        ("homeserver/push/fresh.py", "from homeserver.rooms import sending_api", "Endpoints are imported"),
        ("homeserver/sessions/fresh.py", "from homeserver.devices.types import Device", "in no circle"),
        ("homeserver/rooms/fresh.py", "import homeserver.wiring.core", "what starts it"),
        ("homeserver/rooms/fresh.py", "import federation", "are plugged in"),
        ("homeserver/log/fresh.py", "import homeserver.graph.refs", "every package stands in one"),
        ("appservices/bots/fresh.py", "import homeserver.matrix.ids", "on the public API alone"),
    ],
)
def test_what_must_not_be_is_refused(copy: Path, file: str, text: str, contract: str) -> None:
    fresh = copy / file
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_text(f"{text}\n")
    try:
        code, said = lint(copy)
    finally:
        fresh.unlink()
        if file.endswith("__init__.py"):
            shutil.rmtree(fresh.parent)
    assert code == 1, said
    broken = said.partition("Broken contracts")[2]
    assert contract in " ".join(broken.split()), said


def test_names_that_only_sound_alike_are_nobodys_secret() -> None:
    from tests.support.package_private import _ends

    assert _ends("homeserver.rooms.store", {"store"})
    assert _ends("homeserver.rooms.time_store", {"store"})
    assert not _ends("homeserver.log.restore", {"store"})
