"""E-mail addresses of accounts: proving one is yours, adding and removing it, logging in and resetting a password with it.

spec: client-server-api/#adding-account-administrative-contact-information, #email-based-identity--homeserver
"""
