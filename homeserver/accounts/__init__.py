"""Accounts of this server: who exists, how one comes to exist, what state it is in, and how it ends."""
