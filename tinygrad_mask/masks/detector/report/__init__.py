"""Pictures of what the detector found."""
