"""Backups of room keys: versions, and the keys in them.

spec: client-server-api/#server-side-key-backups (E2E-14 to E2E-16)
"""
