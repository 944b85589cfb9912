"""Programs that are carried into containers; each is one file and imports the standard library alone.

But for `datapath`, which is carried with the modules of the laboratory that make its programs.
"""
