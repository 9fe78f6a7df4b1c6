"""Devices and keys between servers: queries and claims both ways, device lists and how they are followed, messages to devices.

spec: server-server-api/#device-management, #end-to-end-encryption, #send-to-device-messaging
"""
