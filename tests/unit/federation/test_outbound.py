"""Transactions to be repeated, and ephemeral words that wait: what is kept, and how much."""

import json

from federation.outbound.edus import EduSources
from federation.outbound.ephemeral import MAX_FOR_ONE, Ephemeral, Said
from federation.outbound.ephemeral_sources import ReceiptEdus, TypingEdus
from federation.outbound.transactions import Pending, Transaction, encode
from homeserver.matrix import canonical_json
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import FakeClock

HERE = ServerName("here")


def transaction(name: str, size: int, *positions: int) -> Transaction:
    return Transaction(txn_id=name, body=bytes(size), positions=positions, event_ids=(), edus=0)


def ephemeral() -> Ephemeral:
    return Ephemeral(EduSources(), FakeClock(), runs=lambda: True, nudge=lambda *_: None)


def test_a_transaction_is_canonical_json_and_its_id_is_its_content() -> None:
    """FED-08: an id never has two contents."""
    pdus, edus = [b'{"a":1}', b'{"b":2}'], [b'{"content":{},"edu_type":"m.x"}']
    txn_id, body = encode(HERE, 5, pdus, edus)
    assert body == canonical_json.encode(json.loads(body))
    assert json.loads(body) == {
        "origin": "here",
        "origin_server_ts": 5,
        "pdus": [{"a": 1}, {"b": 2}],
        "edus": [{"content": {}, "edu_type": "m.x"}],
    }
    assert encode(HERE, 5, pdus, edus) == (txn_id, body)
    others = {
        encode(HERE, 6, pdus, edus)[0],
        encode(HERE, 5, pdus[:1], edus)[0],
        encode(HERE, 5, pdus, [])[0],
    }
    assert len({txn_id, *others}) == 4


def test_what_was_not_taken_is_repeated_only_if_it_is_what_comes_next() -> None:
    pending = Pending()
    first = transaction("a", 10, 4, 5)
    assert pending.keep("two", first) == []
    assert pending.matching("two", [4, 5, 6]) is first
    assert pending.matching("two", [5, 6]) is None
    assert pending.matching("two", [4]) is None
    assert pending.matching("three", [4, 5]) is None
    assert pending.forget("two") is first
    assert pending.forget("two") is None


def test_transactions_that_wait_are_bounded_in_bytes() -> None:
    pending = Pending(max_bytes=100)
    kept = [transaction(str(n), 40, n) for n in range(4)]
    gone = [dropped for n, each in enumerate(kept) for dropped in pending.keep(f"s{n}", each)]
    assert gone == [("s0", kept[0]), ("s1", kept[1])]
    assert pending.keep("s2", transaction("again", 40, 9)) == []
    assert len(pending) == 2
    assert pending.keep("s4", transaction("too large for all", 101, 1))[-1][0] == "s4"


def test_the_last_word_with_a_key_counts_and_words_are_bounded() -> None:
    waiting, source = ephemeral(), TypingEdus(None, None, HERE)  # type: ignore[arg-type]
    for number in range(3):
        waiting._put("two", Said(source, "alice", {"typing": number}))
    edus, taken = waiting.take("two", 10)
    assert [json.loads(each)["content"] for each in edus] == [{"typing": 2}]
    assert len(waiting) == 0
    assert not waiting.give_back("two", taken), "typing is of no worth later"
    for number in range(MAX_FOR_ONE + 50):
        waiting._put("two", Said(source, number, {"typing": number}))
    assert len(waiting) == MAX_FOR_ONE
    edus, _ = waiting.take("two", 10)
    assert [json.loads(each)["content"]["typing"] for each in edus] == list(range(50, 60)), "the oldest first"


def test_receipts_come_back_unless_there_is_a_newer_one() -> None:
    waiting, source = ephemeral(), ReceiptEdus(None, None, HERE)  # type: ignore[arg-type]
    old, other = Said(source, "a", "old"), Said(source, "b", "other")
    waiting._put("two", Said(source, "a", "new"))
    assert waiting.give_back("two", [old, other])
    assert [said.value for said in waiting._waiting["two"].values()] == ["new", "other"]
    waiting.drop_momentary("two")
    assert len(waiting) == 2
    waiting.clear()
    assert len(waiting) == 0
