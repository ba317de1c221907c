"""Adam, and AdamW, whose weight decay is apart from the gradient."""

from collections.abc import Iterable
from typing import Any, ClassVar

from tinygrad_mask.backends import Array
from tinygrad_mask.optim.arguments import as_number
from tinygrad_mask.optim.optimizer import Optimizer, ParamGroup, State
from tinygrad_mask.tensor import Tensor


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1); weight decay is added to the gradient.

    With `amsgrad` the largest second moment so far takes the place of the second moment (Reddi,
    Kale and Kumar 2018, in the form that PyTorch uses). `maximize` steps along the gradient instead
    of against it.
    """

    _flags = ("amsgrad", "maximize")
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[ParamGroup],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )

    def _check_options(self, options: dict[str, Any]) -> None:
        super()._check_options(options)
        name, betas = type(self).__name__, options["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise ValueError(f"{name}: expected betas to be two numbers, got {betas!r:.80}")
        options["betas"] = tuple(as_number(name, "betas", beta) for beta in betas)
        if not all(0 <= beta < 1 for beta in options["betas"]):
            raise ValueError(f"{name}: expected 0 <= beta < 1, got {options['betas']}")
        if not options["eps"] >= 0:
            raise ValueError(f"{name}: expected eps >= 0, got {options['eps']}")

    def _slots(self, group: ParamGroup) -> tuple[str, ...]:
        largest = ("largest_second_moment",) if group["amsgrad"] else ()
        return ("first_moment", "second_moment", *largest)

    def _update(
        self,
        group: ParamGroup,
        parameters: list[Array],
        gradients: list[Array],
        state: State,
        steps: list[int],
    ) -> None:
        if group["amsgrad"]:
            self._update_amsgrad(group, parameters, gradients, state, steps)
            return
        self.parameters[0].backend.adam_update(
            parameters,
            gradients,
            state["first_moment"],
            state["second_moment"],
            steps=steps,
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=self._decoupled,
        )

    def _update_amsgrad(
        self,
        group: ParamGroup,
        parameters: list[Array],
        gradients: list[Array],
        state: State,
        steps: list[int],
    ) -> None:
        xp = self.parameters[0].backend.xp
        lr, (beta1, beta2), weight_decay = group["lr"], group["betas"], group["weight_decay"]
        for w, g, m, v, largest, step in zip(
            parameters, gradients, *(state[slot] for slot in self._slots(group)), steps, strict=True
        ):
            if self._decoupled:
                w *= 1 - lr * weight_decay
            elif weight_decay:
                g = g + weight_decay * w
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            xp.maximum(largest, v, out=largest)
            scale = xp.sqrt(largest / (1 - beta2**step)) + group["eps"]
            w -= lr / (1 - beta1**step) * m / scale


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    _decoupled = True

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[ParamGroup],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
