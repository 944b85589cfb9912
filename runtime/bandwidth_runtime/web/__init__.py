"""The web server for metrics and probes, bounded so that no number of clients can harm the process."""
