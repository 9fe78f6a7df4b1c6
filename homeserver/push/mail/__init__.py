"""Mails about what is unread: pushers of kind `email`.

spec: op:postPusher `kind` (PUSH-16), RFC 8058
"""
