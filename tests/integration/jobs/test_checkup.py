"""What `atrium doctor` says of work in the background."""

from homeserver.jobs.checkup import examine
from homeserver.storage.database import Database


async def test_work_that_goes_well_is_good(database: str) -> None:
    async with Database(database, size=1) as db:
        (finding,) = await examine(db)
    assert finding.verdict == "good"


async def test_what_waits_was_given_up_or_fails_is_named(database: str) -> None:
    async with Database(database, size=1) as db:
        async with db.transaction() as tx:
            await tx.execute(
                """
                INSERT INTO jobs (kind, payload, due_at, failed_at) VALUES
                    ('slow', '{}', now() - interval '1 hour', NULL), ('slow', '{}', now(), NULL),
                    ('later', '{}', now() + interval '1 hour', NULL), ('bad', '{}', now() - interval '1 day', now())
                """
            )
            await tx.execute("INSERT INTO periodic_work (name, failures) VALUES ('sweep', 7), ('other', 1)")
        findings = await examine(db)
    assert {finding.verdict for finding in findings} == {"doubtful"}
    sentences = " ".join(finding.sentence for finding in findings)
    assert "2 jobs of the kind slow wait, the longest for 60 minutes" in sentences
    assert "1 jobs of the kind bad were given up" in sentences
    assert "sweep has failed 7 times" in sentences
    assert len(findings) == 3
