"""Logging in: the ways in, and who an identifier means."""
