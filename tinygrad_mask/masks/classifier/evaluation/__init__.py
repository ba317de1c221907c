"""How good a classifier is: metrics, intervals, calibration, thresholds, slices."""
