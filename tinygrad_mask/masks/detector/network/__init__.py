"""The detector's network, and how its output maps become boxes."""
