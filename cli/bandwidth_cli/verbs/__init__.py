"""The verbs, one module each: each asks the cluster, decides with pure modules, and prints one page."""
