"""Notifying clients that are not looking: pushers, and telling their gateways.

spec: client-server-api/#push-notifications, push-gateway-api
"""
