"""The same work done by others on this machine: events of one client, ordered, replicated, applied three times.

`kinds` names who can take part, `contest` plays the rounds, `turn` is one system's turn in a round, and each system has
a module of its own. `tools/peers.py` is the program.
"""
