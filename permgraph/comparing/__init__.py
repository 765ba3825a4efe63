"""Models of one architecture, traced once and run together."""
