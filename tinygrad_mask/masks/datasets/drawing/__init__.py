"""Drawing people with and without masks, from a description of what is to be seen.

A head is a surface, and so is what it wears: each is a grid of points that is turned, lit and drawn
cell by cell, from far to near. `traits` says what can vary, `surface` holds the geometry, `head`,
`mask` and `hand` the things drawn with it, `face` the whole person, `scene` everything around.
"""
