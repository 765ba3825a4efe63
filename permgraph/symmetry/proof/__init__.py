"""Proof by computation: elements are applied to a model, and its function is compared."""
