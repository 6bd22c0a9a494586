"""State machines: the author's API, their sessions, and the engine that applies committed events to one."""
