"""What an agent sees of the packets that leave: who gets how much, and whether limits hold; opened only when asked."""
