"""What `top` looks with on one host: samples, the limits that are in force, and what one more limit would change."""
