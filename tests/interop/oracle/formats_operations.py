"""Synapse's formats (canonical JSON, hashes, ids, signatures, redaction), as operations of the oracle.

Loaded by `worker.py` in Synapse's environment.
"""

import hashlib
from typing import Any

from canonicaljson import encode_canonical_json
from signedjson.key import decode_signing_key_base64
from synapse.api.errors import SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import (
    compute_content_hash,
    compute_event_reference_hash,
    compute_event_signature,
)
from synapse.events import make_event_from_dict
from synapse.federation.federation_base import event_from_pdu_json
from synapse.synapse_rust.events import redact_event_dict
from unpaddedbase64 import encode_base64


def examine(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """All that Synapse makes of each of `pdus` in room version `version`; signed by `domain` with `seed`."""
    version = KNOWN_ROOM_VERSIONS[arguments["version"]]
    key = decode_signing_key_base64("ed25519", "a_1", arguments["seed"])
    found = []
    for pdu in arguments["pdus"]:
        # Synapse removes what it does not know from `unsigned` on receipt, and parses the rest: nothing we compare.
        event = make_event_from_dict(
            {name: value for name, value in pdu.items() if name != "unsigned"}, version
        )
        not_signed = {name: value for name, value in pdu.items() if name != "signatures"}
        redacted = redact_event_dict(version, dict(pdu))
        redacted.pop("unsigned", None)
        found.append(
            {
                "canonical": encode_canonical_json(pdu).decode("utf-8"),
                "content_hash": encode_base64(compute_content_hash(dict(pdu), hashlib.sha256)[1]),
                "reference_hash": encode_base64(compute_event_reference_hash(event)[1]),
                "event_id": event.event_id,
                "room_id": event.room_id,
                "redacted": redacted,
                "signature": compute_event_signature(version, not_signed, "domain", key)["domain"][
                    "ed25519:a_1"
                ],
            }
        )
    return found


def receive(arguments: dict[str, Any]) -> list[str | None]:
    """What Synapse says to each of `pdus` on receipt in room version `version`: None, or why it is dropped."""
    version = KNOWN_ROOM_VERSIONS[arguments["version"]]
    return [_receive(pdu, version) for pdu in arguments["pdus"]]


def _receive(pdu: Any, version: Any) -> str | None:
    try:
        event_from_pdu_json(pdu, version)
    except SynapseError as error:
        return error.msg
    except (TypeError, ValueError, KeyError) as error:
        return f"crashed: {error!r}"
    return None
