"""User-interactive authentication: prove once more who you are before something that matters is done."""
