"""What the plugin prints: tables as kubectl prints them, YAML, ages, colours. Pure but for `page`, which prints."""
