"""Places where two devices of a user meet before one of them is logged in: one has shown the other a QR code, and now they exchange
texts there.

spec: MSC4388 (the channel of MSC4108)
"""
