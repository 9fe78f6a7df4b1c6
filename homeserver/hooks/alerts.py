"""Alerts as Alertmanager and Grafana post them (version 4 of Alertmanager's webhook; Grafana's has the same and more). Pure.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from homeserver.hooks.message import Said, bold, clean, code, joined, lines, link, quoted, text
from homeserver.hooks.slack import objects

MAX_ALERTS: Final = 20
"""Alerts that are shown; of the others it is said how many there are."""
MAX_LABELS: Final = 30
_FIRING, _RESOLVED = "#e01e5a", "#2eb67d"
_SHOWN_APART: Final = frozenset({"alertname", "severity", "__alert_rule_uid__", "grafana_folder"})


def is_alerts(body: Mapping[str, Any]) -> bool:
    """Whether it can be read as a group of alerts."""
    return isinstance(body.get("alerts"), list) and ("groupLabels" in body or "commonLabels" in body)


def message(body: Mapping[str, Any]) -> Said:
    """A line for the group, one for each alert."""
    alerts = list(objects(body.get("alerts"), MAX_ALERTS))
    known = body["alerts"] if isinstance(body.get("alerts"), list) else []
    hidden = len(known) - len(alerts) + _count(body.get("truncatedAlerts"))
    more = text(f"… and {hidden} more") if hidden > 0 else text("")
    return joined([_head(body, len(known)), *map(_alert, alerts), more], "\n", "")


def _head(body: Mapping[str, Any], count: int) -> Said:
    firing = clean(body.get("status")) != "resolved"
    state = f"[FIRING:{count}]" if firing else "[RESOLVED]"
    named = _labels(body, "commonLabels").get("alertname") or _labels(body, "groupLabels").get("alertname")
    title = text(body.get("title")) or text(" ".join(filter(None, [state, clean(named)])))
    return link(body.get("externalURL"), bold(title))


def _alert(raw: Mapping[str, Any]) -> Said:
    labels, notes = _labels(raw, "labels"), _labels(raw, "annotations")
    firing = clean(raw.get("status")) != "resolved"
    sentence = text(notes.get("summary") or notes.get("message") or labels.get("alertname"))
    severity = clean(labels.get("severity"))
    kept = [f"{name}={clean(value)}" for name, value in labels.items() if name not in _SHOWN_APART]
    source = raw.get("generatorURL")
    return quoted(
        lines(
            [
                joined([text(severity.upper()), link(source, sentence)], ": "),
                text(notes.get("description")),
                joined(map(code, kept), " "),
                link(notes.get("runbook_url"), text("runbook")) if "runbook_url" in notes else text(""),
                link(raw.get("silenceURL"), text("silence")) if "silenceURL" in raw else text(""),
            ]
        ),
        _FIRING if firing else _RESOLVED,
    )


def _labels(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = raw.get(key)
    if not isinstance(found, Mapping):
        return {}
    return dict(list(found.items())[:MAX_LABELS])


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1_000_000 else 0
