"""Training a classifier: its recipes, augmented batches and objective."""
