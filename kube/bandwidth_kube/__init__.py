"""Requests to an API server: where it is, who we are there, one request, a list in pages, a watch.

Shared by the operator and the agent; contains nothing about our own kinds. Requests use urllib3 and plain JSON; the
library `kubernetes` only reads kubeconfig files (docs/design/0006-requests-without-the-client-library.md).
"""
