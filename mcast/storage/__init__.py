"""A node's data directory: the journal of frames, and the few values a node must never forget."""
