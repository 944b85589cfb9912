"""The agent as a service of systemd: the files that this takes, whose they are, and how they come onto a host."""
