"""Talking to an API server on raw JSON: where it is, one request, a list in pages, a watch.

Shared by the operator and the agent; knows nothing of our kinds and decides nothing. Stands on urllib3 and plain JSON,
not on the library `kubernetes` (docs/design/0006-no-client-library.md).
"""
