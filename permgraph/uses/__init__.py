"""Uses of a derived group: units, reordering, removal, moving other tensors along, canonical forms, comparison."""
