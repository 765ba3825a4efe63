"""permgraph's own adapters, registered through the same entry points as third-party ones."""
