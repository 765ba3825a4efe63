"""Matching in all kinds: scales are balanced, then permutations, signs and rotations are found by closed forms."""
