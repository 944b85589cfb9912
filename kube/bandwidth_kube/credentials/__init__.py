"""Reads credentials: from a kubeconfig, from a program, from certificates; all become the same values."""
