"""What `make` runs to install says so when it did not work: a stamp on half an installation would hide it for good."""

import subprocess
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "scripts" / "install.sh"


@pytest.mark.parametrize("status", [0, 1])
def test_an_installation_that_failed_fails(tmp_path: Path, status: int) -> None:
    """Without a terminal the output goes through a pipe, of which the last program's status is all that counts."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\ncase "$*" in *" -r "*) echo Collecting all; exit {status};; esac\n')
    python.chmod(0o755)
    (tmp_path / "requirements.txt").write_text("six==1.17.0\n")
    done = subprocess.run(
        ["/bin/sh", INSTALL, tmp_path, "the server", tmp_path / "requirements.txt"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    assert "Collecting all" in done.stdout
    assert ("Installed the server" in done.stdout) == (status == 0)
