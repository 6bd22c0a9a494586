"""The only sockets: interfaces, UDP multicast with GSO and GRO, TCP both ways, an in-process hub, faults on purpose.

It moves datagrams and messages and knows neither the protocol nor what a node is.
"""
