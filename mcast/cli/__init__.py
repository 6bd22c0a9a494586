"""The command `mcast`: one module per command, what they print in `output`, how they end in `exits`."""
