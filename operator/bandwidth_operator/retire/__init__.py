"""The end of an installation: all nodes remove what is ours from their kernels, and all limits report it."""
