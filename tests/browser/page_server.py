"""A web server on loopback for a built client, which finds the homeserver's address in its `config.json`."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, config: bytes, *arguments: object, directory: str) -> None:
        self.config = config
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]  # as the server class passes them

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/config.json":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.config)))
        self.end_headers()
        self.wfile.write(self.config)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path, homeserver_url: str, server_name: str) -> Iterator[str]:
    """Serves `folder` while the block runs; gives its address. Names itself localhost: crypto needs a secure context."""
    homeserver = {"base_url": homeserver_url, "server_name": server_name}
    config = json.dumps({"default_server_config": {"m.homeserver": homeserver}}).encode()
    handler = functools.partial(_Handler, config, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
