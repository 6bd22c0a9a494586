"""The imperative shell around the protocol: sockets, disk, timers, clients."""
