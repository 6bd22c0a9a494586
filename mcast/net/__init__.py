"""The only sockets for datagrams: interfaces, UDP multicast with GSO and GRO, an in-process hub, faults on purpose."""
