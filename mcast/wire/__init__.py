"""Bytes <-> values, pure: envelope, frame, records, control messages, and what clients and peers say over TCP."""
