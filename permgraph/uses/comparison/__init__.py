"""How alike two models are, up to the symmetries of their architecture."""
