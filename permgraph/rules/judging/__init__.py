"""How an operation judges what its rule claims, and what the rule leaves out."""
