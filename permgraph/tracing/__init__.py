"""From a model to a graph, from a graph to relations, and the graph run with any weights."""
