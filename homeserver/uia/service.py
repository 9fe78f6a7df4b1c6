"""User-interactive authentication: prove once more who you are before something that matters is done.

Owns sessions of such proofs (in PostgreSQL: they outlive this process and are seen by all), the order of stages, and
the 401 that asks for the next one. What a stage is, is `stages.py`; flows are data of the endpoint that asks.

spec: client-server-api/#user-interactive-authentication-api (CHECKLIST AUTH-02 to AUTH-06)
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec
from typing_extensions import override

from homeserver.matrix.errors import (
    BadJson,
    Forbidden,
    InvalidParam,
    LimitExceeded,
    MatrixError,
    Unavailable,
    Unknown,
)
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions.tokens import MAX_TOKEN, UIA, digest_of, new_token
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.uia import store
from homeserver.uia.sealing import adds_to, body_mac, kept, kept_body
from homeserver.web.auth import Requester
from homeserver.web.body import json_decoder
from homeserver.web.rate_limit import RateLimiter
from homeserver.web.request import RequestInfo

Flows = Sequence[Sequence[str]]
"""Ways to authenticate, each a list of stage types in order."""


class Who(NamedTuple):
    """The user who has to prove something."""

    user_nid: int
    user_id: UserId


class UiaRequest(NamedTuple):
    """A request that needs proof."""

    operation: str
    """The operation and what its path names: a session is good for this and nothing else."""
    body: Mapping[str, Any]
    """The whole body, `auth` included."""
    who: Who | None
    """Whose token it carries."""
    ip: str


_whole = json_decoder(dict[str, Any])


class UiaBody(msgspec.Struct):
    """The body of an operation that needs nothing but proof."""

    auth: dict[str, Any] | None = None


def uia_request(operation: str, requester: Requester | None, info: RequestInfo) -> UiaRequest:
    """From a request whose body has been read, and found to be an object (or empty) as far as the endpoint looked.

    Raises:
        NotJson: where it did not look. Likewise BadJson.
    """
    who = None if requester is None else Who(requester.user_nid, requester.user_id)
    body = _whole(info.body) if info.body else {}
    return UiaRequest(operation, body, who, info.ip)


class Stage(Protocol):
    """One kind of proof."""

    @property
    def type(self) -> str: ...

    @property
    def guessable(self) -> bool:
        """Whether somebody could hit upon the proof by trying: attempts are counted then."""
        ...

    @property
    def kept(self) -> bool:
        """Whether its completion must be written down even when nothing else is asked for: it cannot be proved again."""
        ...

    def params(self) -> Mapping[str, Any] | None:
        """What a client must know to go through it."""
        ...

    async def check(self, request: UiaRequest, auth: Mapping[str, Any]) -> str:
        """What to remember of the proof (may be empty). Raises a `MatrixError` if it fails."""
        ...

    async def claim(self, tx: Tx, session: bytes, remembered: str) -> None:
        """In the transaction that notes the completion in the session with this hash. May raise as `check`."""
        ...


class UiaRequired(MatrixError):
    """The 401 that asks for (more) proof; with an errcode only if a stage has failed."""

    status = 401
    errcode = "M_UNAUTHORIZED"

    def __init__(self, question: Mapping[str, Any], failure: MatrixError | None = None) -> None:
        super().__init__("Prove who you are", **question)
        self.failure = failure

    @override
    def to_json(self) -> dict[str, Any]:
        failed = (
            {} if self.failure is None else {"errcode": self.failure.errcode, "error": self.failure.error}
        )
        return {**self.fields, **failed}


@dataclass(frozen=True, slots=True)
class Verified:
    """Proof that a flow was gone through for this very request."""

    remembered: Mapping[str, str]
    """Stage -> what it learned."""
    session: bytes | None
    """Hash of the session; None if all was proved in one request."""

    async def consume(self, tx: Tx) -> None:
        """Use the proof up, in the transaction of what it was for.

        Raises:
            Forbidden: another request was quicker.
        """
        if self.session is not None and not await store.delete_uia_session(tx, self.session):
            raise Forbidden("This authentication was used already")


class SomebodyElse(Forbidden):
    """The proof is of another user than the one whose token the request carries. No new question would change that."""

    def __init__(self) -> None:
        super().__init__("This is to be confirmed by the user who asks for it, and by nobody else")


NOTHING_PROVED = Verified({}, None)
"""For requests that need no proof."""


class Uia:
    """The engine; knows stages by their type."""

    def __init__(
        self, *, db: Database, clock: Clock, entropy: Entropy, limiter: RateLimiter, lifetime_ms: int
    ) -> None:
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._limiter = limiter
        self._lifetime_ms = lifetime_ms
        self._stages: dict[str, Stage] = {}

    def add(self, *stages: Stage) -> None:
        """Make stages known."""
        self._stages.update({stage.type: stage for stage in stages})

    def can(self, stage_type: str) -> bool:
        return stage_type in self._stages

    def params(self, stage_type: str) -> Mapping[str, Any]:
        """What a person, or their client, must know to go through a stage that there is."""
        return self._stages[stage_type].params() or {}

    async def require(self, request: UiaRequest, flows: Flows) -> Verified:
        """Returns when the request proves one of the flows.

        Raises:
            UiaRequired: nothing, not enough, or something wrong was proved.
            Unknown: there is no such session (any more).
            Forbidden: the session belongs to another request, or the proof to another user (`SomebodyElse`).
            LimitExceeded: too many attempts.
        """
        auth = request.body.get("auth")
        if not auth:
            self._limiter.hit_address("ui_auth", request.ip)
            raise await self._ask(request, flows)
        if not isinstance(auth, dict):
            raise BadJson("auth: not an object")
        name = _text(auth, "session")
        stage_type = _text(auth, "type")
        if name is None:
            return await self._at_once(request, flows, auth, stage_type)
        session = await self.find(name)
        self._match(request, session, name)
        if stage_type is not None and stage_type not in session.completed:
            session = await self._advance(request, flows, (session, name), (auth, stage_type))
        if _complete(flows, session.completed):
            return Verified(dict(zip(session.completed, session.remembered, strict=True)), digest_of(name))
        raise UiaRequired(self._question(flows, name, session.completed))

    async def resumed(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a body means that may be nothing but `auth`: then the one that its session was begun with.

        Raises `Unknown` as `require`.
        """
        auth = body.get("auth")
        if len(body) > 1 or not isinstance(auth, dict) or not isinstance(name := auth.get("session"), str):
            return body
        sealed = (await self.find(name)).sealed_body
        return body if sealed is None else {**kept_body(name, sealed), "auth": auth}

    async def forget(self, proof: Verified) -> None:
        """Use a proof up, for operations that may be done twice. A second request with it may have been quicker."""
        if proof.session is not None:
            async with self._db.transaction() as tx:
                await store.delete_uia_session(tx, proof.session)

    async def clean(self) -> None:
        """Delete the sessions that nobody finished in time."""
        async with self._db.transaction() as tx:
            await store.delete_expired(tx, self._clock.now_ms())

    async def find(self, name: str) -> store.UiaRow:
        """A session by its name. Raises `Unknown`."""
        async with self._db.read() as tx:
            found = await store.find_uia_session(tx, digest_of(name[:MAX_TOKEN]), self._clock.now_ms())
        if found is None:
            raise Unknown("Unknown or expired authentication session")
        return found

    async def prove(self, name: str, stage_type: str, auth: Mapping[str, Any], ip: str) -> None:
        """Complete a stage out of band (the fallback page). The stage's own failure is raised as it is."""
        session = await self.find(name)
        stage = self._stages.get(stage_type)
        if stage is None:
            raise InvalidParam("There is no such kind of authentication here")
        if stage_type in session.completed:
            return
        self._limiter.hit_address("ui_auth", ip)
        who = None if session.user_nid is None else Who(session.user_nid, UserId(session.user_id or ""))
        request = UiaRequest(session.operation, {}, who, ip)
        remembered = await stage.check(request, auth)
        await self._record(name, stage, remembered, session)

    async def _at_once(
        self, request: UiaRequest, flows: Flows, auth: Mapping[str, Any], stage_type: str | None
    ) -> Verified:
        """A client that knows what will be asked proves it in its first request."""
        if stage_type is None:
            raise await self._ask(request, flows)
        stage = self._next_stage(flows, [], stage_type)
        failure = stage if isinstance(stage, MatrixError) else None
        remembered = ""
        if not isinstance(stage, MatrixError):
            outcome = await self._check(stage, request, auth, begins=True)
            failure = outcome if isinstance(outcome, MatrixError) else None
            remembered = outcome if isinstance(outcome, str) else ""
            if failure is None and _complete(flows, [stage_type]) and not stage.kept:
                return Verified({stage_type: remembered}, None)
        question = await self._ask(request, flows)
        if failure is not None:
            raise UiaRequired(question.fields, failure)
        assert not isinstance(stage, MatrixError)
        name = question.fields["session"]
        begun = self._begun(name, request)
        try:
            await self._record(name, stage, remembered, begun)
        except MatrixError as refused:
            raise UiaRequired(question.fields, refused) from None
        if _complete(flows, [stage_type]):
            return Verified({stage_type: remembered}, digest_of(name))
        raise UiaRequired(self._question(flows, name, [stage_type]))

    async def _advance(
        self,
        request: UiaRequest,
        flows: Flows,
        of: tuple[store.UiaRow, str],
        proof: tuple[Mapping[str, Any], str],
    ) -> store.UiaRow:
        (session, name), (auth, stage_type) = of, proof
        stage = self._next_stage(flows, session.completed, stage_type)
        outcome = (
            stage if isinstance(stage, MatrixError) else await self._check(stage, request, auth, begins=False)
        )
        if isinstance(outcome, MatrixError):
            raise UiaRequired(self._question(flows, name, session.completed), outcome)
        assert not isinstance(stage, MatrixError)
        advanced = session.advanced(stage_type, outcome)
        if not stage.kept and _complete(flows, advanced.completed):
            return advanced
        bound = session if session.completed else self._bound(name, request, session)
        try:
            return await self._record(name, stage, outcome, bound)
        except MatrixError as failure:
            raise UiaRequired(self._question(flows, name, session.completed), failure) from None

    async def _check(
        self, stage: Stage, request: UiaRequest, auth: Mapping[str, Any], *, begins: bool
    ) -> str | MatrixError:
        if stage.guessable or begins:
            if request.who is not None:
                self._limiter.hit("ui_auth", request.who.user_id)
            else:
                self._limiter.hit_address("ui_auth", request.ip)
        try:
            return await stage.check(request, auth)
        except (LimitExceeded, Unavailable, SomebodyElse):  # another answer would not help
            raise
        except MatrixError as failure:
            return failure

    async def _record(self, name: str, stage: Stage, remembered: str, session: store.UiaRow) -> store.UiaRow:
        """Note a completion, and what the session is bound to from then on: the body in `session`.

        Returns the session as it is then. Raises `Forbidden` if another request has completed something else meanwhile.
        """
        digest = digest_of(name)
        async with self._db.transaction() as tx:
            if await store.complete_stage(tx, digest, session, (stage.type, remembered)):
                await stage.claim(tx, digest, remembered)
                return session.advanced(stage.type, remembered)
        found = await self.find(name)
        if stage.type not in found.completed or found.body_mac != session.body_mac:
            raise Forbidden("Another request went on with this authentication at the same time")
        return found

    def _next_stage(self, flows: Flows, completed: Sequence[str], stage_type: str) -> Stage | MatrixError:
        done = len(completed)
        following = [
            flow[done] for flow in flows if len(flow) > done and list(flow[:done]) == list(completed)
        ]
        if stage_type not in following:
            if any(stage_type in flow for flow in flows):
                return InvalidParam(f"auth.type: the next stage is {' or '.join(following)}")
            return InvalidParam("auth.type: not a stage of any flow")
        return self._stages[stage_type]

    async def _ask(self, request: UiaRequest, flows: Flows) -> UiaRequired:
        """Begin a session."""
        name = new_token(self._entropy, UIA)
        row = self._begun(name, request)
        async with self._db.transaction() as tx:
            await store.insert_uia_session(tx, digest_of(name), row, self._clock.now_ms() + self._lifetime_ms)
        return UiaRequired(self._question(flows, name, []))

    def _begun(self, name: str, request: UiaRequest) -> store.UiaRow:
        user_nid = request.who.user_nid if request.who else None
        row = store.UiaRow(request.operation, b"", user_nid, completed=[], remembered=[])
        return self._bound(name, request, row)

    def _bound(self, name: str, request: UiaRequest, session: store.UiaRow) -> store.UiaRow:
        sealed = kept(name, request.body, self._entropy)
        return session._replace(body_mac=body_mac(name, request.body), sealed_body=sealed)

    def _question(self, flows: Flows, name: str, completed: Sequence[str]) -> dict[str, Any]:
        types = dict.fromkeys(stage_type for flow in flows for stage_type in flow)
        params = {stage_type: self._stages[stage_type].params() for stage_type in types}
        return {
            "flows": [{"stages": list(flow)} for flow in flows],
            "params": {stage_type: value for stage_type, value in params.items() if value},
            "session": name,
            "completed": list(completed),
        }

    @staticmethod
    def _match(request: UiaRequest, session: store.UiaRow, name: str) -> None:
        """Raises `Forbidden` unless the session may go on with the request.

        Clients begin with little to learn the flows, and tell the rest with the first stage. So until a stage is completed
        a request may add to what the session was begun with; but a proof is for the body it came with, and no other.
        """
        user_nid = request.who.user_nid if request.who else None
        same = session.operation == request.operation and session.user_nid == user_nid
        open_to_more = not session.completed
        if not same or not (
            hmac.compare_digest(session.body_mac, body_mac(name, request.body))
            or (open_to_more and adds_to(name, session.sealed_body, request.body))
        ):
            raise Forbidden("The request is not the one this authentication was begun for")


def _complete(flows: Flows, completed: Sequence[str]) -> bool:
    return any(list(flow) == list(completed) for flow in flows)


def _text(auth: Mapping[str, Any], key: str) -> str | None:
    value = auth.get(key)
    if value is not None and not isinstance(value, str):
        raise BadJson(f"auth.{key}: not a string")
    return value or None
