"""Durable work: deferred in the transaction of its cause, done at least once by one process of the cluster."""
