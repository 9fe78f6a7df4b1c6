"""Whether an event notifies a user as things are now, by all that their rules may ask.

spec: client-server-api/#push-rules (PUSH-01)
"""

from __future__ import annotations

from typing import Any

from homeserver.events.push_rules import EVENT_WORK, Around, CompiledRules, EvaluationContext
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import INVITE, JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.push.around import around_of
from homeserver.push.evaluators import Evaluators
from homeserver.push.pushers.badges import Badge
from homeserver.push.pushers.content import Told
from homeserver.push.service import PushRuleService
from homeserver.runtime.turns import next_turn


class Deciding:
    """Asks the rules. Keeps nothing."""

    def __init__(
        self, evaluators: Evaluators, rules: PushRuleService, rooms: Rooms, events: EventCache
    ) -> None:
        self._evaluators = evaluators
        self._rules = rules
        self._rooms = rooms
        self._events = events

    async def of(self, badge: Badge, persisted: Any) -> Told | None:
        """What of something that a reader was handed notifies the user; None: nothing."""
        if (
            not isinstance(persisted, PersistedEvent)
            or persisted.redaction is not None
            or persisted.sender_nid == badge.user_nid
            or persisted.event.sender in badge.unwanted.ignored
        ):
            return None
        own = badge.rooms.rooms.get(persisted.room_nid)
        if own is None:
            return None
        if own.membership == INVITE and own.event_nid == persisted.nid:
            return await self._of_invite(badge, persisted)
        if persisted.hidden:  # but for an invite to a room that this server is not in
            return None
        # What one has read meanwhile notifies nobody any more.
        if own.membership != JOIN or not badge.unread.get(persisted.room_nid):
            return None
        user = await self._evaluators.of(badge.user_nid, badge.user_id)
        evaluator = user.evaluator.in_room(persisted.event.room_id)
        mentioned = badge.user_nid in persisted.facts.mentions
        outcome = evaluator.by_fact(persisted.facts.bits, mentioned, persisted.facts.thread)
        if outcome is not None and not outcome.notify:
            return None
        around = Around(0)
        if outcome is None:
            around = await around_of(await self._rooms.get(persisted.room_nid), self._events, badge.user_id)
        context = EvaluationContext(persisted.event, around)
        step = evaluator.step(context, persisted.facts, mentioned)
        if EVENT_WORK - context.work.left > EVENT_WORK // 4:
            await next_turn()
        return Told(persisted, step.actions) if step is not None and step.outcome.notify else None

    async def _of_invite(self, badge: Badge, persisted: PersistedEvent) -> Told | None:
        """Of an invite the whole rules are asked: who is invited is in no room whose facts could be known."""
        if badge.unwanted.all_invites:
            return None
        await next_turn()
        rules = CompiledRules(await self._rules.whole(badge.user_nid, badge.user_id))
        rule = rules.decide(persisted.event, Around(0))
        return Told(persisted, rule.actions) if rule is not None and rule.outcome.notify else None
