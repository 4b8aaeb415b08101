"""A shop that writes to its customers."""
