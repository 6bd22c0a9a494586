"""The sans-I/O heart: a replica's whole agreement as one object without sockets, clock or disk.

Randomness it draws only from the generator that it is given.
"""
