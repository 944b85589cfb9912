"""The objects of the cluster as the operator knows them, and the lists and watches that keep them up to date."""
