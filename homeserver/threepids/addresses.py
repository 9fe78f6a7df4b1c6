"""E-mail addresses: which strings are some, and the one form in which each is stored and compared.

spec: appendices/#e-mail (CHECKLIST AUTH-32)
"""

from __future__ import annotations

import re
from typing import Final

from homeserver.matrix.errors import InvalidParam

MAX_BYTES: Final = 254
"""Of a whole address. spec: RFC 5321, 4.5.3.1.3, less the angle brackets"""
MAX_LOCAL_BYTES: Final = 64

# An unquoted local part (quoted ones exist on paper), letters of all scripts allowed; a domain of at least two labels
# or a literal host name. Nothing that could end a line or begin a second address.
_LOCAL: Final = re.compile(r"[^\s\x00-\x20\x7f\"(),:;<>@\[\\\]]+")
_DOMAIN: Final = re.compile(r"(?!-)[^\W_]([\w-]{0,61}[^\W_])?(\.[^\W_]([\w-]{0,61}[^\W_])?)*")


def canonical_email(text: str, *, where: str = "email") -> str:
    """The form two spellings of an address have in common: case folded, the domain in lower case.

    Raises:
        InvalidParam: it is no address; `where` names the place in the request.
    """
    local, at, domain = text.strip().rpartition("@")
    folded = f"{local.casefold()}@{domain.lower()}"
    fits = (
        len(folded.encode("utf-8", "replace")) <= MAX_BYTES
        and len(local.encode("utf-8", "replace")) <= MAX_LOCAL_BYTES
    )
    proper = (
        _LOCAL.fullmatch(local)
        and not local.startswith(".")
        and not local.endswith(".")
        and ".." not in local
    )
    if not at or not fits or not proper or not _DOMAIN.fullmatch(domain) or not _is_text(folded):
        raise InvalidParam(f"{where}: not an e-mail address")
    return folded


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True
