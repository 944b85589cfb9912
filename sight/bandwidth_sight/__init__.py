"""Who gets how much: estimates, their merging, rows, tables, the screen. Needs no more than the API package."""
