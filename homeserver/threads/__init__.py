"""Thread subscriptions: which threads a user wants to hear of.

spec: MSC4306, MSC4308
"""
