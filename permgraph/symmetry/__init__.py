"""The symmetry group of a model: derived, specified, explained, and proved."""
