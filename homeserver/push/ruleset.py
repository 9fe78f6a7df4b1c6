"""A user's push rules: their own, and what they changed of the defaults. Pure.

spec: client-server-api/#push-rules
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.matrix.errors import InvalidParam, NotFound
from homeserver.matrix.ids import UserId
from homeserver.push.defaults import ALL_KINDS, KINDS, MASTER, Kind, Rule, default_rules, thread_rules

MAX_RULES = 1_000
MAX_BYTES = 256 * 1024
"""Of all rules as JSON: they are told to each device as a whole, whenever one changes."""


class Changed(msgspec.Struct):
    """What a user made of a default rule; None: as it comes."""

    enabled: bool | None = None
    actions: list[Any] | None = None


class Ruleset(msgspec.Struct):
    """As it is stored."""

    own: dict[str, list[dict[str, Any]]] = {}
    """kind -> rules, the most important first."""
    changed: dict[str, Changed] = {}
    """rule_id of a default -> what was changed."""
    threads: bool = False
    """Whether the rules for threads apply: since the user has subscribed to one (MSC4306)."""

    def whole(self, user_id: UserId) -> dict[Kind, list[Rule]]:
        """All rules in the order they apply: `.m.rule.master`, one's own, the other defaults (PUSH-02)."""
        defaults = default_rules(user_id)
        if self.threads:
            defaults["postcontent"] = thread_rules()
        for rules in defaults.values():
            for rule in rules:
                change = self.changed.get(rule["rule_id"])
                if change is not None and change.enabled is not None:
                    rule["enabled"] = change.enabled
                if change is not None and change.actions is not None:
                    rule["actions"] = change.actions
        whole: dict[Kind, list[Rule]] = {}
        for kind in ALL_KINDS if self.threads else KINDS:
            first = [rule for rule in defaults[kind] if rule["rule_id"] == MASTER]
            rest = [rule for rule in defaults[kind] if rule["rule_id"] != MASTER]
            whole[kind] = [*first, *self.own.get(kind, ()), *rest]
        return whole

    def find(self, user_id: UserId, kind: Kind, rule_id: str) -> Rule:
        """Raises `NotFound`."""
        for rule in self.whole(user_id).get(kind, ()):
            if rule["rule_id"] == rule_id:
                return rule
        raise NotFound("There is no such push rule")

    def put(self, kind: Kind, rule: Rule, *, before: str | None, after: str | None) -> None:
        """Add one's own rule, or replace it; the most important of its kind unless told otherwise (PUSH-11).

        Raises `NotFound` for a neighbour that is none of one's own, `InvalidParam` for too many.
        """
        rules = self.own.setdefault(kind, [])
        place = next((i for i, old in enumerate(rules) if old["rule_id"] == rule["rule_id"]), None)
        if place is not None:
            rule["enabled"] = rules.pop(place)["enabled"]
        neighbour = before or after
        if neighbour is not None:
            at = next((i for i, old in enumerate(rules) if old["rule_id"] == neighbour), None)
            if at is None:
                raise NotFound("before, after: none of your own rules of this kind")
            rules.insert(at if before else at + 1, rule)
        else:
            rules.insert(place or 0, rule)
        if sum(map(len, self.own.values())) > MAX_RULES:
            raise InvalidParam(f"More than {MAX_RULES} push rules")

    def of_room(self, room_id: str) -> list[tuple[Kind, Rule]]:
        """One's own rules that are named after a room, as clients name those that silence it or make it ring."""
        return [
            (kind, rule) for kind in KINDS for rule in self.own.get(kind, ()) if rule["rule_id"] == room_id
        ]

    def copy_room(self, old_id: str, new_id: str) -> None:
        """The rules of a room for the one that replaces it, unless it has some. Raises `InvalidParam` for too many."""
        there = {kind for kind, _ in self.of_room(new_id)}
        for kind, rule in self.of_room(old_id):
            if kind in there:
                continue
            copy = {**rule, "rule_id": new_id}
            if "conditions" in rule:
                copy["conditions"] = [
                    {**condition, "pattern": new_id} if condition.get("pattern") == old_id else condition
                    for condition in rule["conditions"]
                ]
            self.put(kind, copy, before=None, after=None)

    def delete(self, kind: Kind, rule_id: str) -> None:
        """One of one's own. Raises `NotFound`."""
        rules = self.own.get(kind, [])
        kept = [rule for rule in rules if rule["rule_id"] != rule_id]
        if len(kept) == len(rules):
            raise NotFound("There is no such push rule")
        self.own[kind] = kept

    def change(
        self,
        user_id: UserId,
        kind: Kind,
        rule_id: str,
        *,
        enabled: bool | None = None,
        actions: list[Any] | None = None,
    ) -> None:
        """Switch any rule, or give it other actions. Raises `NotFound`. (PUSH-12)"""
        self.find(user_id, kind, rule_id)
        for rule in self.own.get(kind, ()):
            if rule["rule_id"] == rule_id:
                if enabled is not None:
                    rule["enabled"] = enabled
                if actions is not None:
                    rule["actions"] = actions
                return
        change = self.changed.setdefault(rule_id, Changed())
        if enabled is not None:
            change.enabled = enabled
        if actions is not None:
            change.actions = actions


def check_actions(actions: list[Any]) -> None:
    """Raises `InvalidParam`. `dont_notify` and `coalesce` of old clients are kept as they came, and do nothing (PUSH-09).

    spec: client-server-api/#historical-actions
    """
    for number, action in enumerate(actions):
        tweak = isinstance(action, dict) and isinstance(action.get("set_tweak"), str)
        if action not in ("notify", "dont_notify", "coalesce") and not tweak:
            raise InvalidParam(f"actions[{number}]: neither notify nor a tweak")
