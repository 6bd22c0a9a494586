"""Measurements: what this machine's plain Python can do, and what the fabric makes of it."""
