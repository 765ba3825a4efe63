"""Matching by weights: the objective, its relaxation, and the search."""
