"""Incoming webhooks: `POST /_atrium/hooks/{secret}` becomes a message in a room (docs/webhooks.md)."""
