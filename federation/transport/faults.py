"""From what the HTTP library raises to faults of a destination, in words that help whoever reads the log."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator

import aiohttp

from federation.ports import NotPermitted, Unreachable
from homeserver.matrix.ids import ServerName
from homeserver.web.addresses import AddressRefused


@contextlib.contextmanager
def translated(destination: ServerName) -> Iterator[None]:
    """Turn what the HTTP library raises into faults of the destination."""
    try:
        yield
    except aiohttp.ClientPayloadError as error:
        raise Unreachable(destination, "the answer ended too early") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise Unreachable(destination, f"its certificate is not accepted: {_reason(error)}") from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, AddressRefused):
            raise NotPermitted(destination, str(error.os_error)) from error
        raise Unreachable(destination, f"no connection: {_words(error.os_error)}") from error
    except TimeoutError as error:
        raise Unreachable(destination, "no answer in time") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unreachable(destination, f"no answer: {type(error).__name__}") from error


def _reason(error: aiohttp.ClientConnectorCertificateError) -> str:
    found = error.certificate_error
    return getattr(found, "verify_message", "") or _words(found)


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'reason', None) or error}"
    if isinstance(error, socket.gaierror):
        return "the name has no address"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
