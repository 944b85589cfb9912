"""The manifest directory on disk: which files it has, whether they changed, whether a save is under way."""
