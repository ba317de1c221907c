"""What a trained classifier is used for: predictions, explanations, export."""
