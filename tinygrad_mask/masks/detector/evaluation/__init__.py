"""Average precision of the detector, by class and by size of the face."""
