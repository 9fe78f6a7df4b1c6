"""What a person is told of when another server does not answer as it should.

spec: server-server-api/#unsupported-endpoints (CHECKLIST FED-27)
"""

from __future__ import annotations

from federation.ports import NotPermitted, RemoteError, RemoteFault
from homeserver.matrix.errors import Forbidden, MatrixError, NotFound, Unavailable


def as_error(fault: RemoteFault) -> MatrixError:
    """What it does not know or show is 404 or 403 here too; what we asked wrongly, or it cannot do, is 502."""
    if isinstance(fault, NotPermitted):
        return Forbidden(f"This server does not speak with {fault.destination}")
    if isinstance(fault, RemoteError) and fault.status == 404:
        return NotFound(f"{fault.destination} knows nothing of it")
    if isinstance(fault, RemoteError) and fault.status in (401, 403):
        return Forbidden(f"{fault.destination} does not tell it")
    return Unavailable(f"{fault.destination} could not be asked", status=502)
