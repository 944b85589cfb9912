"""The sub-commands of bandwidth-operator, one module each."""
