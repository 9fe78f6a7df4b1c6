"""Whom this server speaks with."""
