"""Files people share: the content repository.

spec: client-server-api/#content-repository
"""
