"""From data sets to a trained detector and its figures."""
