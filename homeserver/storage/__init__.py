"""Layer 2: PostgreSQL, and nothing of Matrix."""
