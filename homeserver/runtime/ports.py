"""Ports to listen on: chosen where the configuration leaves it open, and found free before anything else starts."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from homeserver.config import Config, Listener


class PortTaken(Exception):
    """Somebody else listens there; the message says where."""


def settle(config: Config) -> Config:
    """The same configuration with a number for every port 0.

    Raises:
        PortTaken: an address cannot be listened on.
    """
    return config.with_listeners(tuple(settle_one(listener) for listener in config.listeners))


def urls(listeners: Sequence[Listener]) -> list[str]:
    """What a person would open, one for each listener that carries something for clients."""
    return [_url(each) for each in listeners if each.unix_socket is None and "client" in each.resources]


def settle_one(listener: Listener) -> Listener:
    """The listener with a number for port 0. Raises as `settle`."""
    if listener.unix_socket is not None:
        _settle_unix(listener.unix_socket)
        return listener
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Listening, not only binding: with SO_REUSEPORT on their side, that is what fails.
            probe.bind((listener.address, listener.port))
            probe.listen(1)
        except OSError as error:
            where = f"{listener.address} port {listener.port}"
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"Another program already listens on {where}") from None
            raise PortTaken(f"Cannot listen on {where}: {os.strerror(error.errno or 0)}") from None
        return listener.model_copy(update={"port": probe.getsockname()[1]})


def _settle_unix(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (
            FileNotFoundError,
            ConnectionRefusedError,
        ):  # nothing there, or left over by a server that was killed
            reason = (
                None if os.access(path.parent, os.W_OK | os.X_OK) else "its folder is not there, or not ours"
            )
        except OSError as error:
            reason = str(error) if error.errno is None else os.strerror(error.errno)
        else:
            raise PortTaken(f"Another program already listens on {path}")
    if reason is None and path.exists() and not path.is_socket():
        reason = "it is a file of another kind"
    if reason is not None:
        raise PortTaken(f"Cannot listen on {path}: {reason}")


def _url(listener: Listener) -> str:
    host = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}.get(
        listener.address, listener.address
    )
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if listener.tls else 'http'}://{host}:{listener.port}"
