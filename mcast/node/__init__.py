"""The imperative shell around the protocol: sockets, disk, timers; and in `gateway` its clients and peers.

It carries out what the protocol asks for and decides nothing that the protocol should.
"""
