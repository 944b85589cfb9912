"""How long to wait after a write that failed. Pure."""

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)  # the last one again and again
RETRY_AFTER_MAX_SECONDS = 30.0  # whatever a server asks for
