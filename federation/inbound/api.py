"""The endpoint that other servers send transactions to.

spec: server-server-api/#put_matrixfederationv1sendtxnid
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from federation.inbound.transactions import Transactions
from federation.inbound.types import MAX_EDUS, MAX_PDUS
from homeserver.matrix.errors import InvalidParam
from homeserver.web.auth import Auth, Origin
from homeserver.web.endpoint import Body, Path, endpoint

MAX_TXN_ID: Final = 255


class TransactionBody(msgspec.Struct):
    """Events and EDUs; who sends them is told by the signature of the request alone."""

    pdus: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_PDUS)] = []
    edus: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_EDUS)] = []


class SendApi:
    """Taking transactions."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    @endpoint("sendTransaction", "PUT", "/_matrix/federation/v1/send/{txnId}", auth=Auth.SERVER)
    async def send(self, origin: Origin, txn_id: Path[str], body: Body[TransactionBody]) -> msgspec.Raw:
        """FED-08, FED-09."""
        if len(txn_id) > MAX_TXN_ID or "\0" in txn_id:
            raise InvalidParam(f"txnId: at most {MAX_TXN_ID} characters, none of them U+0000")
        answer = await self._transactions.receive(origin.server_name, txn_id, body.pdus, body.edus)
        return msgspec.Raw(answer)
