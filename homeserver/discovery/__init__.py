"""What a client learns of this server before and after logging in: versions, capabilities, well-known files."""
