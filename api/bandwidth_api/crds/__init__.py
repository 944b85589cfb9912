"""The kinds of our CRDs, one module each: reads, checks and writes objects of one kind. Pure."""
