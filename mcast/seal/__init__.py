"""Keys, the seal on every datagram, proof that a sender's process is alive, and TLS from the same key file."""
