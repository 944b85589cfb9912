"""How the node routes: addresses, routes, rules, next hops, and which interface leads to an address. Reads only."""
