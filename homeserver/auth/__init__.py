"""Proving who one is: passwords, login, access and refresh tokens, user-interactive authentication."""
