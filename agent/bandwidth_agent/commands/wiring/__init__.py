"""What the sub-commands have in common: the parts that they wire together, a run that stays, what they print."""
