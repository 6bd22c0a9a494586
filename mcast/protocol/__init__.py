"""The sans-I/O heart: a replica's whole agreement as one object without sockets, clock, disk or randomness."""
