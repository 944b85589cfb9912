"""Programs that are carried into containers; each is one file and imports the standard library alone."""
