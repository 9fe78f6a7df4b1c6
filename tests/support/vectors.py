"""The test vectors that come with the specification's data (`vectors.json`)."""

import functools
import json
from typing import Any

import pytest

from homeserver.matrix import base64
from homeserver.matrix.signing import SigningKey
from tests.support.spec_files import ABSENT, spec_dir


@functools.cache
def _all() -> dict[str, Any] | None:
    folder = spec_dir()
    file = folder / "vectors.json" if folder else None
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else None


def vectors(section: str) -> Any:
    """One section of the vectors; skips the test where they are not here."""
    found = _all()
    if found is None:
        pytest.skip(ABSENT)
    return found[section]


def signing_key() -> SigningKey:
    """The key all signatures in the vectors were made with; it belongs to the server `domain`."""
    given = vectors("signing_key")
    return SigningKey(base64.decode(given["seed_unpadded_base64"]), given["key_id"].partition(":")[2])
