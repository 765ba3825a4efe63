"""One state dict for all that a symmetry makes of it: smallest norm, then bases, signs and orders by invariants."""
