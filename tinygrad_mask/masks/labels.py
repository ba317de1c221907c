"""The three labels that a face can have, in the order of the classifier's outputs."""

LABELS: tuple[str, ...] = ("proper", "improper", "none")
"""`proper`: the mask covers nose, mouth and chin; `improper`: it is worn, but leaves the nose or
the mouth free; `none`: the face wears no mask. A class index is a position in this tuple."""
