"""Push rules: what a user wants to be told of. Sending notifications, and counting them, is not here yet.

spec: client-server-api/#push-rules (PUSH-02 to PUSH-04, PUSH-09 to PUSH-13)
"""
