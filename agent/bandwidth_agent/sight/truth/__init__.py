"""Whether limits hold: packets that left, compared with what the classes of their clients have counted."""
