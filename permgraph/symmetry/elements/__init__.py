"""Elements of a symmetry group, and how they act on tensors."""
