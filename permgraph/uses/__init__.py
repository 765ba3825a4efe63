"""What a derived group is good for: units, orders, removal, what moves along, canonical forms, comparison."""
