"""The sockets of requests: one deadline for a whole exchange, and the addresses that they are connected to."""
