"""The specification of a model's symmetry: groups, layouts, ties; its JSON, its text and its explanations."""
