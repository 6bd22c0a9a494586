"""A node's TCP side: what clients and peers ask over a connection, and what this node asks of its peers.

It knows the shell, whose state it reads and to which it gives commands. The shell knows nothing of it: what happens
there the gateway hears by subscribing.
"""
