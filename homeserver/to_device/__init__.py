"""Messages to devices: in order, each until its device has acknowledged it, surviving everything.

spec: client-server-api/#send-to-device-messaging (TD-01, TD-02, SYNC-18)
"""
