"""Tools to test functions of tensors with, one's own included.

`check_gradients` compares gradients with finite differences. `tinygrad_mask.testing.strategies`
(which needs Hypothesis) draws inputs for every primitive.
"""

from tinygrad_mask.testing.gradients import GradientError, check_gradients

__all__ = ["GradientError", "check_gradients"]
