"""Browser clients meet a server here; which one, `tests.support.met_server` says.

They install some 335 MB of npm packages, so they run only when asked for: `make test-browser`, or `pytest -m browser`.
"""

import pytest

from tests.support.met_server import base_url, own_server

__all__ = ["base_url", "own_server"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "browser" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("browser")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
