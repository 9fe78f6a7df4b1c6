"""The oracle: Synapse's functions, one process for the whole run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.interop.oracle.client import Oracle
from tests.support.synapse import VERSION, ensure_environment


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """Asks Synapse; skips where it cannot be installed."""
    try:
        python = ensure_environment()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Synapse {VERSION} cannot be installed here: {error}")
    with Oracle(python) as running:
        yield running
