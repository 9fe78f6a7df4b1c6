"""What other servers send us: transactions are staged durably and answered; their events are drained per room.

spec: server-server-api/#transactions, #checks-performed-on-receipt-of-a-pdu, #edus. How it works: docs/federation-inbound.md
"""
