"""Handing letters to a mail server: with and without TLS, with a password, when it is away, when it refuses."""
