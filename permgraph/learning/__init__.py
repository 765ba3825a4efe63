"""Learning by gradient on unlabelled data: an element of a symmetry group, or the weights of a merge."""
