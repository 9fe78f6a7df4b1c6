"""Who is typing: in memory, told to other processes through the log's feed, forgotten after a while.

spec: client-server-api/#typing-notifications (EPH-08)
"""
