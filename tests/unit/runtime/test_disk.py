"""What is said of the room for the database."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from homeserver.runtime.clock import FakeClock
from homeserver.runtime.disk import REMEMBERED, DiskSpace


async def test_a_refused_write_is_told_for_a_while() -> None:
    clock = FakeClock()
    disk = DiskSpace(None, clock)
    assert disk.trouble() is None
    disk.refused()
    assert disk.trouble() == "the database has no room to write"
    await clock.advance(REMEMBERED + 1)
    assert disk.trouble() is None


def test_our_own_disk_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = DiskSpace(tmp_path, FakeClock())
    assert disk.trouble() is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    assert disk.trouble() == "the disk is full"
