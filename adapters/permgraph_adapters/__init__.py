"""Adapters that permgraph brings along, registered through the same entry points as anybody else's."""
