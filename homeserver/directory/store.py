"""SQL of the list of published rooms, and of the search for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import LiteralString, NamedTuple

from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Tx

MAX_CANDIDATES = 2_000
"""People whose names match, of whom it is looked up whether they may be found."""
MAX_FOUND = 1_000
"""People whose names the index finds, of each kind, that are looked at: of a word that more have, some of them."""
NEAR_ROOMS, NEAR_MEMBERS = 100, 30
"""Rooms of the seeker, direct chats first, and members of each, who are looked at beside."""
MAX_PUBLISHED = 20_000
"""Rooms the list is made of."""


async def list_published(tx: Tx, network: str | None) -> list[int]:
    """room_nids of a network's list; None: of all lists."""
    return await tx.column(
        """
        SELECT DISTINCT room_nid FROM published_rooms WHERE %(all)s OR network = %(network)s
        ORDER BY room_nid LIMIT %(limit)s
        """,
        all=network is None,
        network=network or "",
        limit=MAX_PUBLISHED,
    )


async def still_published(tx: Tx, room_nids: Sequence[int], network: str | None) -> list[int]:
    """Which of these rooms are in a network's list; None: in any list."""
    return await tx.column(
        """
        SELECT DISTINCT room_nid FROM published_rooms
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND (%(all)s OR network = %(network)s)
        """,
        rooms=list(room_nids),
        all=network is None,
        network=network or "",
    )


async def keep_order(tx: Tx, digest: bytes, room_nids: Sequence[int], now_ms: int) -> None:
    """Keep an order of rooms, or note that it is in use."""
    await tx.execute(
        """
        INSERT INTO room_list_orders (digest, room_nids, used_ms)
        VALUES (%(digest)s, %(rooms)s::bigint[], %(now)s)
        ON CONFLICT (digest) DO UPDATE SET used_ms = greatest(room_list_orders.used_ms, excluded.used_ms)
        """,
        digest=digest,
        rooms=list(room_nids),
        now=now_ms,
    )


async def drop_orders(tx: Tx, most: int, before_ms: int) -> None:
    """Orders not used since `before_ms`, and the oldest beyond so many; not those that somebody else deals with."""
    await tx.execute(
        """
        DELETE FROM room_list_orders WHERE digest IN (
            SELECT digest FROM room_list_orders
            WHERE used_ms < greatest(%(before)s, (
                SELECT used_ms FROM room_list_orders ORDER BY used_ms DESC OFFSET %(most)s LIMIT 1))
            FOR UPDATE SKIP LOCKED)
        """,
        before=before_ms,
        most=most - 1,
    )


async def find_order(tx: Tx, digest: bytes) -> list[int] | None:
    return await tx.value(  # type: ignore[no-any-return]  # bigint[]
        "SELECT room_nids FROM room_list_orders WHERE digest = %(digest)s", digest=digest
    )


async def is_published(tx: Tx, room_nid: int) -> bool:
    row = await tx.one(
        "SELECT 1 FROM published_rooms WHERE room_nid = %(room)s AND network = ''", room=room_nid
    )
    return row is not None


async def publish(tx: Tx, room_nid: int, network: str) -> None:
    await tx.execute(
        "INSERT INTO published_rooms (room_nid, network) VALUES (%(room)s, %(network)s) ON CONFLICT DO NOTHING",
        room=room_nid,
        network=network,
    )


async def unpublish(tx: Tx, room_nid: int, network: str) -> None:
    await tx.execute(
        "DELETE FROM published_rooms WHERE room_nid = %(room)s AND network = %(network)s",
        room=room_nid,
        network=network,
    )


class Sought(NamedTuple):
    """Who is looked for."""

    words: Sequence[str]
    """Folded; each is somewhere in the name or the local part."""
    whole: str
    """The words with a space between them: as a whole user id it finds its owner."""


class Seeker(NamedTuple):
    """Who looks, and whom they may find."""

    user_nid: int
    everybody: bool
    """If not: others with whom they share a room, and members of the list's rooms and of `rooms`. A whole user id finds its
    owner anyway: whoever knows it can ask for the profile."""
    rooms: Collection[int] = ()
    direct: Collection[str] = ()
    """Room ids of their direct chats."""


MANY_SHARED = 10
"""Rooms shared with somebody beyond which more make no difference."""


async def find_users(
    tx: Tx, sought: Sought, seeker: Seeker, *, limit: int
) -> list[tuple[UserId, bytes | None]]:
    """(user id, profile as JSON) of people, those of other servers if they are in a room that is here: whose id it is, then those
    with whom the seeker has a direct chat, then by the rooms they share, then by how well the name matches: its beginning, the
    beginning of a word in it.

    Names are found by an index of their parts (`people_grams`), of the longest word: at most `MAX_FOUND` of each kind, and beside
    them whom the seeker talks with. All words are looked for in these.
    Whom the seeker may find and knows is looked up for the `MAX_CANDIDATES` whose names match best alone.
    """
    return await tx.all(
        FIND_USERS,
        patterns=["%" + _literally(word) + "%" for word in sought.words],
        begins=_literally(sought.whole) + "%",
        word="% " + _literally(sought.whole) + "%",
        whole=sought.whole,
        longest=max(sought.words, key=len),
        everybody=seeker.everybody,
        asker=seeker.user_nid,
        direct=list(seeker.direct),
        rooms=list(seeker.rooms),
        many=MANY_SHARED,
        candidates=MAX_CANDIDATES,
        found=MAX_FOUND,
        near_rooms=NEAR_ROOMS,
        near_members=NEAR_MEMBERS,
        limit=limit,
    )


class RemotePerson(NamedTuple):
    """A user of another server."""

    user_nid: int
    name: str | None
    avatar_url: str | None
    folded_name: str
    folding: int
    """The version of the folding."""


async def write_people(tx: Tx, people: Sequence[RemotePerson]) -> None:
    """Users of other servers, new ones and others by their new names; in the order of their numbers."""
    await tx.execute(
        """
        INSERT INTO remote_people (user_nid, name, avatar_url, folded_name, folding)
        SELECT nid, nullif(name, ''), nullif(avatar, ''), folded, folding
        FROM unnest(%(nids)s::bigint[], %(names)s::text[], %(avatars)s::text[], %(folded)s::text[], %(foldings)s::int[])
             AS row (nid, name, avatar, folded, folding)
        ON CONFLICT (user_nid) DO UPDATE SET name = excluded.name, avatar_url = excluded.avatar_url,
            folded_name = excluded.folded_name, folding = excluded.folding
        """,
        nids=[each.user_nid for each in people],
        names=[each.name or "" for each in people],
        avatars=[each.avatar_url or "" for each in people],
        folded=[each.folded_name for each in people],
        foldings=[each.folding for each in people],
    )


async def find_known_people(tx: Tx, user_nids: Collection[int]) -> set[int]:
    """Those of the users who have a row."""
    return set(
        await tx.column(
            "SELECT user_nid FROM remote_people WHERE user_nid = ANY(%(nids)s::bigint[])",
            nids=list(user_nids),
        )
    )


async def list_rooms(tx: Tx, *, after: int, limit: int) -> list[int]:
    """room_nids in order, those after one."""
    return await tx.column(
        "SELECT room_nid FROM rooms WHERE room_nid > %(after)s ORDER BY room_nid LIMIT %(limit)s",
        after=after,
        limit=limit,
    )


async def find_state(tx: Tx, room_nids: Sequence[int], types: Sequence[str]) -> list[tuple[int, int]]:
    """(room_nid, event_nid) of the current state events of some types, with an empty state key, in some rooms."""
    return await tx.all(
        """
        SELECT room_nid, event_nid FROM current_state
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND key_nid = ANY(ARRAY(
            SELECT key_nid FROM event_keys WHERE type = ANY(%(types)s::text[]) AND state_key = ''))
        """,
        rooms=list(room_nids),
        types=list(types),
    )


def _literally(text: str) -> str:
    """As LIKE reads it."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


FIND_USERS: LiteralString = """
    WITH mine AS MATERIALIZED (
        SELECT room_nid, room_nid IN (SELECT room_nid FROM rooms WHERE room_id = ANY(%(direct)s::text[])) AS direct
        FROM current_state WHERE user_nid = %(asker)s AND membership = 1
    ), likely AS MATERIALIZED (
        (SELECT user_nid FROM profiles WHERE people_grams(folded_name) @> people_grams_of_word(%(longest)s)
         LIMIT %(found)s)
        UNION
        (SELECT user_nid FROM remote_people WHERE people_grams(folded_name) @> people_grams_of_word(%(longest)s)
         LIMIT %(found)s)
        UNION
        (SELECT user_nid FROM users
         WHERE people_grams(split_part(lower(user_id COLLATE "C"), ':', 1)) @> people_grams_of_word(%(longest)s)
         LIMIT %(found)s)
        UNION
        (SELECT user_nid FROM users
         WHERE lower(user_id COLLATE "C") = %(whole)s
            OR lower(user_id COLLATE "C") >= '@' || %(whole)s || ':' AND lower(user_id COLLATE "C") < '@' || %(whole)s || ';'
         LIMIT %(found)s)
        UNION
        (SELECT near.user_nid FROM (SELECT room_nid FROM mine ORDER BY direct DESC LIMIT %(near_rooms)s) my
         CROSS JOIN LATERAL (SELECT user_nid FROM current_state WHERE room_nid = my.room_nid AND membership = 1
                             LIMIT %(near_members)s) near)
    )
    SELECT user_id, coalesce(profiles.fields, convert_to(json_strip_nulls(json_build_object(
               'displayname', remote_people.name, 'avatar_url', remote_people.avatar_url))::text, 'UTF8')) FROM (
        SELECT user_nid, user_id, ours, lower(user_id COLLATE "C") = %(whole)s AS owner,
               split_part(lower(user_id COLLATE "C"), ':', 1) IN (%(whole)s, '@' || %(whole)s) AS named,
               (folded LIKE %(begins)s)::int
               + (' ' || folded LIKE %(word)s
                  OR split_part(lower(user_id COLLATE "C"), ':', 1) LIKE '@' || %(begins)s)::int AS begins
        FROM (
            SELECT user_nid, user_id, coalesce(folded_name, '') AS folded, true AS ours
            FROM likely JOIN accounts USING (user_nid) JOIN users USING (user_nid) LEFT JOIN profiles USING (user_nid)
            WHERE deactivated_ms IS NULL AND NOT is_guest AND NOT locked
            UNION ALL
            SELECT user_nid, user_id, folded_name, false
            FROM likely JOIN remote_people USING (user_nid) JOIN users USING (user_nid)) people
        WHERE lower(user_id COLLATE "C") = %(whole)s OR
              (folded || chr(10) || split_part(lower(user_id COLLATE "C"), ':', 1)) LIKE ALL (%(patterns)s::text[])
        ORDER BY owner DESC, named DESC, begins DESC, length(user_id), user_id COLLATE "C"
        LIMIT %(candidates)s) a
    LEFT JOIN profiles USING (user_nid)
    LEFT JOIN remote_people USING (user_nid)
    CROSS JOIN LATERAL (
        SELECT count(*) AS shared, coalesce(bool_or(mine.direct), false) AS direct
        FROM current_state theirs JOIN mine USING (room_nid)
        WHERE theirs.user_nid = a.user_nid AND theirs.membership = 1 AND a.user_nid <> %(asker)s) known
    WHERE (ours OR EXISTS (SELECT 1 FROM current_state theirs
                           WHERE theirs.user_nid = a.user_nid AND theirs.membership = 1))
      AND (owner OR %(everybody)s OR shared > 0 OR EXISTS (
        SELECT 1 FROM current_state theirs WHERE theirs.user_nid = a.user_nid AND theirs.membership = 1
          AND (theirs.room_nid = ANY(%(rooms)s::bigint[])
            OR theirs.room_nid IN (SELECT room_nid FROM published_rooms))))
    ORDER BY owner DESC, named DESC, direct DESC, least(shared, %(many)s) DESC, begins DESC, length(user_id),
             user_id COLLATE "C"
    LIMIT %(limit)s
"""
