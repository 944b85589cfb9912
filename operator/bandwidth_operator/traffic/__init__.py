"""Questions about traffic: which of them live, what they ask of the nodes together, and what is answered."""
