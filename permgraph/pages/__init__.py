"""Self-contained HTML: the inspection of a model, and the report of a merge. No page asks the network for anything."""
