"""Compares two models up to the symmetries of their architecture."""
