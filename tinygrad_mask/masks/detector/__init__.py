"""Find the faces in whole photographs and say how each one's mask is worn."""
