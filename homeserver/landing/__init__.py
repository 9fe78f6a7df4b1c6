"""The page at `/`: what this server is, and how to connect."""
