"""The client library: sessions, resending, receipts, queries."""
