"""Requests to the API server by the kubectl that is there: runs it, reads what it prints, and never a kubeconfig."""
