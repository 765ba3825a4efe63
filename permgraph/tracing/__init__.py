"""Turns a model into a graph and a graph into relations, and runs the graph with any weights."""
