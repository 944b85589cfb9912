"""What the acting replica does for policies: what they decide becomes limits, their statuses, Events and metrics."""
