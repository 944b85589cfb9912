"""The kubectl plugin: finds, slows and explains clients of a cluster in a terminal. Asks the API server by kubectl."""
