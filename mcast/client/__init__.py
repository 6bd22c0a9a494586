"""The client library: connection, session, resending, receipts, queries, subscriptions, and an operator's requests.

It speaks to nodes over TCP alone and knows nothing of what runs in them.
"""
