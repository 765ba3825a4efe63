"""The index algebra: axes, relations between them, ties, and which permutation may depend on which index."""
