"""One state dict for a whole orbit: smallest norm, then bases, signs and permutations by invariants."""
