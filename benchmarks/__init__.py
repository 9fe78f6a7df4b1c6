"""Measures any Matrix homeserver through the public client-server API: `python -m benchmarks --help`."""
