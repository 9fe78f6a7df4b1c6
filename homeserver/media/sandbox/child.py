"""The process of the sandbox: `python -m homeserver.media.sandbox.child MEMORY`. Reads tasks, writes answers, until its input ends.

It takes no more memory than told, no more CPU time for a task than the task says, and gives way to every other process.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from typing import Final

from homeserver.media.sandbox import tasks
from homeserver.media.sandbox.tasks import Answer, Failed, Task, ThumbnailTask

_NICENESS: Final = 10
_FILES: Final = 64
_LARGEST_FILE: Final = 128 << 20
"""Bytes of a thumbnail."""


def main(memory: int) -> None:
    """`memory`: bytes of address space."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_AS, memory),
    ):
        with contextlib.suppress(ValueError, OSError):  # what the system bounds already, or cannot bound
            resource.setrlimit(what, (limit, limit))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin.buffer:
        answers.write(tasks.encode(answer(tasks.task_decoder.decode(line))) + b"\n")


def answer(task: Task) -> Answer:
    """Never raises, but for faults of ours."""
    _bound_time(task.seconds)
    try:
        if isinstance(task, ThumbnailTask):
            from homeserver.media.sandbox import images

            return images.thumbnail(task)
        from homeserver.media.sandbox import pages

        return pages.read(task)
    except MemoryError:
        return Failed(reason="too_large")


def _bound_time(seconds: float) -> None:
    """The kernel ends us when a task takes longer."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main(int(sys.argv[1]))
