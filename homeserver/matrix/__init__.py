"""Layer 0, pure: the vocabulary of Matrix (identifiers, JSON, signing, errors). No I/O, no clock, no chance."""
