"""Receipts and read markers: how far somebody has read, publicly or in private, per thread.

spec: client-server-api/#receipts, #read-and-unread-markers (EPH-01 to EPH-06)
"""
