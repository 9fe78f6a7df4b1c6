"""A process that computes: `python -m homeserver.runtime.compute_child MODULE…`. Started by `computing`, ends with its input.

Asked are a function's name and what it is given, told is what it returns; all as bytes behind their lengths.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import struct
import sys
from importlib import import_module
from typing import BinaryIO, Final

LENGTH: Final = struct.Struct("<Q")
NICENESS: Final = 5


def main(modules: list[str]) -> None:
    """`modules`: imported at once, so that the first computation need not wait for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for module in modules:
        import_module(module)
    gc.freeze()
    with contextlib.suppress(BrokenPipeError):
        _serve(source, target)


def _serve(source: BinaryIO, target: BinaryIO) -> None:
    while (count := _number(source)) is not None:
        name, *frames = [_frame(source) for _ in range(count)]
        module, function = name.decode().split(":")
        answer: bytes = getattr(import_module(module), function)(frames)
        del frames
        target.write(LENGTH.pack(len(answer)))
        target.write(answer)
        target.flush()


def _number(source: BinaryIO) -> int | None:
    head = source.read(LENGTH.size)
    return LENGTH.unpack(head)[0] if len(head) == LENGTH.size else None


def _frame(source: BinaryIO) -> bytes:
    size = _number(source)
    if size is None:
        raise EOFError
    return source.read(size)


if __name__ == "__main__":
    main(sys.argv[1:])
