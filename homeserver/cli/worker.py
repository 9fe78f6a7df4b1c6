"""`python -m homeserver worker`: one of several serving processes, started by the supervisor alone."""

from __future__ import annotations


def worker() -> int:
    """Do what the order on standard input says; the exit status."""
    from homeserver.cli.common import in_words
    from homeserver.runtime.logging import setup_logging
    from homeserver.runtime.worker import Order, run_worker

    try:
        order = Order.read()
    except EOFError:  # whoever started us has ended
        return 1
    setup_logging(level=order.config.log.level, style=order.config.log.format, worker=order.worker)
    from homeserver import app

    with in_words():
        return run_worker(order, app.serve)
