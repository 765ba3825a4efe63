"""Finding the element of the group that brings model B closest to model A."""
