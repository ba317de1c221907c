"""Stochastic gradient descent."""

from collections.abc import Iterable
from typing import Any

from tinygrad_mask.backends import Array
from tinygrad_mask.optim.optimizer import Optimizer, ParamGroup, State
from tinygrad_mask.tensor import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent: `w <- w - lr * g`, with g the gradient plus weight decay.

    With momentum m a velocity `v <- m v + (1 - dampening) g`, which starts as g, takes the place of
    g; with Nesterov's momentum it is `g + m v` (Sutskever et al. 2013, in the form that PyTorch
    uses). `maximize` steps along the gradient instead of against it.
    """

    _flags = ("nesterov", "maximize")

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[ParamGroup],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )

    def _check_options(self, options: dict[str, Any]) -> None:
        super()._check_options(options)
        momentum, dampening, nesterov = (
            options[key] for key in ("momentum", "dampening", "nesterov")
        )
        if not 0 <= momentum < 1 or (nesterov and not momentum):
            raise ValueError(
                f"SGD: expected 0 <= momentum < 1, and > 0 with Nesterov's, got {momentum}"
            )
        if not 0 <= dampening <= 1 or (nesterov and dampening):
            raise ValueError(
                f"SGD: expected 0 <= dampening <= 1, and 0 with Nesterov's, got {dampening}"
            )

    def _slots(self, group: ParamGroup) -> tuple[str, ...]:
        return ("velocity",) if group["momentum"] else ()

    def _update(
        self,
        group: ParamGroup,
        parameters: list[Array],
        gradients: list[Array],
        state: State,
        steps: list[int],
    ) -> None:
        velocities = state.get("velocity")
        momentum, weight_decay = group["momentum"], group["weight_decay"]
        if velocities is not None and group["dampening"]:
            _dampen(velocities, parameters, gradients, steps, group)
            # The velocities are now what the parameters move along.
            gradients, velocities, momentum, weight_decay = velocities, None, 0.0, 0.0
        self.parameters[0].backend.sgd_update(
            parameters,
            gradients,
            velocities,
            lr=group["lr"],
            momentum=momentum,
            nesterov=group["nesterov"],
            weight_decay=weight_decay,
        )


def _dampen(
    velocities: list[Array],
    parameters: list[Array],
    gradients: list[Array],
    steps: list[int],
    group: ParamGroup,
) -> None:
    """Move velocities by gradients that are dampened, but for a parameter's first."""
    for velocity, parameter, gradient, step in zip(
        velocities, parameters, gradients, steps, strict=True
    ):
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * parameter
        velocity *= group["momentum"]
        velocity += gradient if step == 1 else (1 - group["dampening"]) * gradient
