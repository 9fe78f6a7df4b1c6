"""Bridges and bots that run beside the server."""

from __future__ import annotations

from homeserver.config.base import ReadableFile, Section


class AppserviceSection(Section):
    """Bridges and bots that run beside the server."""

    registration_files: tuple[ReadableFile, ...] = ()
    """One registration file (YAML) each, as the bridge's own documentation says how to make it. Read again on SIGHUP."""

    legacy_authorization: bool = False
    """Whether services are told their hs_token in the query, too: for those written before 2022. It then stands in logs."""
