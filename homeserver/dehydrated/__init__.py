"""Dehydrated devices: one device per user that exists on the server alone, and collects messages while all others are offline.

MSC3814, under its unstable name.
"""
