"""Models by reference: local folders, hub ids, timm names, Python functions."""
