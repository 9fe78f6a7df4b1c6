"""How this server finds and asks others: names, connections, requests with our signature, pauses for who does not answer.

spec: server-server-api/#server-discovery, #request-authentication
"""
