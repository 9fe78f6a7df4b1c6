"""Sending mail: letters wait in memory, in a queue with an end, and go out over SMTP in the background."""
