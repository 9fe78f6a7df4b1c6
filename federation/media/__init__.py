"""Files: given to other servers, and fetched from them.

spec: server-server-api/#content-repository
"""
