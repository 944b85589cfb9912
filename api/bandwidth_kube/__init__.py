"""Talking to an API server on raw JSON: where it is, one request, a list in pages, a watch.

Shared by the operator and the agent; knows nothing of our kinds and decides nothing. Requests stand on urllib3 and
plain JSON; the library `kubernetes` reads kubeconfig files (docs/design/0006-requests-without-the-client-library.md).
"""
