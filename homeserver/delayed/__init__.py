"""Events that are sent later: kept, listed, restarted, cancelled, and sent when they are due (MSC4140)."""
