"""The networks, and a classifier: a network with what it needs to read a crop of a face."""
