"""Layer 2: one log, many cursors. Everything that anyone can observe is appended here with one position.

writer   group commit: assigns positions, writes a batch in one transaction, resolves its waiters
tail     follows the log in this process: feeds projections, keeps the recent entries
cursors  durable cursors and leases for readers that must run once in a cluster
entries  what can be appended, and where each kind is stored (sinks)
once     idempotency: a retried request never writes twice
"""
