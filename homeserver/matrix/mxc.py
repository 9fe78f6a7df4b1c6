"""`mxc://server/media`: the address of a piece of media.

spec: client-server-api/#matrix-content-mxc-uris
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from typing_extensions import override

from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import MAX_ID_BYTES, ServerName, is_server_name

# spec: client-server-api/#security-considerations-5: nothing else can be part of a path
_MEDIA_ID: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Mxc(NamedTuple):
    """One piece of media. Its text form is `str(mxc)`."""

    server_name: ServerName
    media_id: str

    @override
    def __str__(self) -> str:
        return f"mxc://{self.server_name}/{self.media_id}"


def is_media_id(value: str) -> bool:
    return len(value) <= MAX_ID_BYTES and _MEDIA_ID.fullmatch(value) is not None


def parse(uri: str, where: str = "url") -> Mxc:
    """Read an `mxc://` address. Raises `InvalidParam` naming `where`."""
    scheme, _, rest = uri.partition("://")
    server_name, _, media_id = rest.partition("/")
    if scheme != "mxc" or not is_server_name(server_name) or not is_media_id(media_id):
        raise InvalidParam(f"{where}: not an mxc:// URI")
    return Mxc(ServerName(server_name), media_id)
