"""Keys for end-to-end encryption: kept for users, handed out once, in order, and never lost.

keys           device keys, one-time keys, fallback keys: upload and claim
query          how keys look, to whom
cross_signing  master, self-signing and user-signing keys
signatures     signatures of keys by their owners and by others
tracking       whose device lists a user follows, and how they change
stream         device lists and key counts in `/sync`

spec: client-server-api/#end-to-end-encryption (E2E-*)
"""
