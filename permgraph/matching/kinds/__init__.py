"""Matching in all kinds: scales are balanced away, then orders, signs and rotations are found by closed forms."""
