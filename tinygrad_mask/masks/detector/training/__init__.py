"""Training of the detector: augmentation, target maps, loss."""
