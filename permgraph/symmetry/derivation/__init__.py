"""From a traced model to its specification: bundles of axes become named groups with a kind."""
