"""What the acting replica does in its term, turn by turn, from the first list to the last slice."""
