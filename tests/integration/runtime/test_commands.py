"""What commands say where something is not as it should be: a sentence, and never a traceback."""

import json
from pathlib import Path

import pytest

from tests.support.commands import atrium
from tests.support.postgres import Postgres


@pytest.mark.parametrize("command", [("federation", "status"), ("federation", "dry-run")], ids=" ".join)
async def test_a_database_that_was_never_migrated(
    postgres: Postgres, worker: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    name = f"bare_{worker}"
    file = tmp_path / "config.yaml"
    section = {"name": "localhost", "data_dir": str(tmp_path)}
    file.write_text(json.dumps({"server": section, "database": {"url": postgres.create(name)}}))
    try:
        said = await atrium(*command, config=file, status=1)
    finally:
        postgres.drop(name)
    assert said.endswith("run: atrium migrate")
    assert "Traceback" not in said
