"""Relations of events that were written before there was a table of them: found again by the migration."""

from pathlib import Path
from typing import Any

import psycopg

from homeserver.storage.migrate import FOLDER
from tests.support.graph import process

MIGRATION = FOLDER / "0061-relations-of-before.sql"
ROWS = "SELECT * FROM relations ORDER BY event_nid"


async def test_relations_of_before_are_found_again(database: str, tmp_path: Path) -> None:
    """REL-01: the same rows as if the table had always been there; what is no relation stays none."""
    async with process(database, tmp_path) as one:
        alice = await one.user("alice")
        room = await one.room(alice)
        parent = await one.send(alice, room, "parent")

        async def send(number: int, relates: Any, kind: str = "m.room.message") -> str:
            content = {"msgtype": "m.text", "body": f"{number} \0 \\u0000", "m.relates_to": relates}
            return str(await one.rooms.sending.send(alice, room, kind, f"r{number}", content))

        wanted = [
            {"rel_type": "m.thread", "event_id": parent},
            {"rel_type": "m.annotation", "event_id": parent, "key": "+"},
            {"rel_type": "m.annotation", "event_id": parent, "key": ""},
            {"rel_type": "m.reference", "event_id": "$elsewhere", "key": 7},
            {"m.in_reply_to": {"event_id": parent}},
            {"rel_type": "m.thread", "event_id": 7},
            {"rel_type": "", "event_id": parent},
            "m.thread",
        ]
        for number, relates in enumerate(wanted):
            await send(number, relates)
        redacted = await send(50, {"rel_type": "m.thread", "event_id": parent})
        await one.rooms.sending.redact(alice, room, redacted, "redaction", {})
        content = {"m.relates_to": wanted[0]}
        await one.rooms.sending.put_state(alice, room, ("org.example", ""), content)
    with psycopg.connect(database, autocommit=True) as connection:
        kept = connection.execute(ROWS).fetchall()
        assert len(kept) == 4
        connection.execute("DELETE FROM relations")
        block = MIGRATION.read_text()
        connection.execute(block[block.index("DO $$") :])  # type: ignore[arg-type]  # not a literal
        assert connection.execute(ROWS).fetchall() == kept
