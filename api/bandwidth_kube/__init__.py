"""Talking to an API server on raw JSON: where it is, one request, a list in pages, a watch.

Shared by the operator and the agent; knows nothing of our kinds and decides nothing. Uses the library `kubernetes` for
what is long-winded and easy to get wrong, kubeconfig files and in-cluster credentials, and not for its models: decoding
5,000 objects into them takes nine times as long as plain JSON.
"""
