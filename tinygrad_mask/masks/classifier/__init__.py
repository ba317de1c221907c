"""The classifier: its networks, their training, its evaluation and the report."""
