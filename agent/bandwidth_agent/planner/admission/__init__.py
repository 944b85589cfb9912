"""Decides which limits a node refuses before anything is planned for them. Pure."""
