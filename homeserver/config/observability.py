"""What the server tells about itself."""

from __future__ import annotations

from typing import Literal

from homeserver.config.base import Section


class LogSection(Section):
    """What is written to standard error. Never tokens, passwords or what people write."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines to write."""

    format: Literal["auto", "json", "console"] = "auto"
    """json (one object per line), console (coloured), auto (console on a terminal, else json)."""

    requests: bool = True
    """One line for each request."""


class MetricsSection(Section):
    """Figures for Prometheus, on listeners that carry metrics."""

    enabled: bool = True
    """Whether figures are collected."""
