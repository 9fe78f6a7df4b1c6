"""Programs from elsewhere meet a server here; which one, `tests.support.met_server` says."""

from tests.support.met_server import base_url, killable, own_server

__all__ = ["base_url", "killable", "own_server"]
