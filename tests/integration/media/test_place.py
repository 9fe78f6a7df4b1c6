"""Hosts that share a database share the folder of files, or are told what does not work."""

from pathlib import Path

from homeserver.media.place import MARK, Place
from homeserver.runtime.clock import Entropy
from homeserver.storage.database import Database


async def test_a_host_with_another_folder_is_told_so(database: str, tmp_path: Path) -> None:
    async with Database(database, size=2) as db:
        ours, alone = tmp_path / "ours", tmp_path / "alone"
        for folder, shared in ((ours, True), (ours, True), (alone, False), (ours, True)):
            place = Place(db, Entropy(), folder)
            await place.settle()
            assert (place.trouble is None) == shared
            if place.trouble is not None:
                assert str(alone) in place.trouble
                assert "media.s3" in place.trouble
        assert not (alone / MARK).exists(), "it stays told"


async def test_one_host_or_a_bucket_is_compared_with_nobody(database: str) -> None:
    async with Database(database, size=2) as db:
        place = Place(db, Entropy(), None)
        await place.settle()
        assert place.trouble is None
        async with db.read() as tx:
            assert await tx.value("SELECT count(*) FROM media_place") == 0
