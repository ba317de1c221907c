"""RMSprop."""

from collections.abc import Iterable
from typing import Any

from tinygrad_mask.backends import Array
from tinygrad_mask.optim.optimizer import Optimizer, ParamGroup, State
from tinygrad_mask.tensor import Tensor


class RMSprop(Optimizer):
    """The gradient over the root of a moving average of its square (Hinton 2012, lecture 6).

    With g the gradient plus weight decay and `s <- alpha s + (1 - alpha) g^2`, the step is
    `u = g / (sqrt(s) + eps)` and `w <- w - lr u`. If `centered`, the square of a moving average of
    g is subtracted from s under the root (Graves 2013, section 4.2). With momentum m a velocity
    `v <- m v + u` takes the place of u. `maximize` steps along the gradient instead of against it.
    """

    _flags = ("centered", "maximize")

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[ParamGroup],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    def _check_options(self, options: dict[str, Any]) -> None:
        super()._check_options(options)
        for key in ("alpha", "momentum"):
            if not 0 <= options[key] < 1:
                raise ValueError(f"RMSprop: expected 0 <= {key} < 1, got {options[key]}")
        if not options["eps"] >= 0:
            raise ValueError(f"RMSprop: expected eps >= 0, got {options['eps']}")

    def _slots(self, group: ParamGroup) -> tuple[str, ...]:
        velocity = ("velocity",) if group["momentum"] else ()
        mean = ("mean",) if group["centered"] else ()
        return ("mean_square", *mean, *velocity)

    def _update(
        self,
        group: ParamGroup,
        parameters: list[Array],
        gradients: list[Array],
        state: State,
        steps: list[int],
    ) -> None:
        xp = self.parameters[0].backend.xp
        alpha = group["alpha"]
        for k, (w, g) in enumerate(zip(parameters, gradients, strict=True)):
            if group["weight_decay"]:
                g = g + group["weight_decay"] * w
            square = state["mean_square"][k]
            square *= alpha
            square += (1 - alpha) * g * g
            if group["centered"]:
                mean = state["mean"][k]
                mean *= alpha
                mean += (1 - alpha) * g
                square = xp.maximum(square - mean * mean, 0)  # below 0 by rounding
            update = g / (xp.sqrt(square) + group["eps"])
            if group["momentum"]:
                velocity = state["velocity"][k]
                velocity *= group["momentum"]
                velocity += update
                update = velocity
            w -= group["lr"] * update
