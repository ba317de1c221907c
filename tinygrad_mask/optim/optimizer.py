"""`Optimizer`: parameters in groups, what is kept for each of them, and the order of a step."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np

from tinygrad_mask.backends import Array
from tinygrad_mask.equivalents import OPTIMIZER, mark_absent, without_absent
from tinygrad_mask.keywords import ChecksKeywords
from tinygrad_mask.optim.arguments import as_number, as_tensors, check_parameter
from tinygrad_mask.tensor import Tensor

ParamGroup: TypeAlias = dict[str, Any]
"""Parameters under 'params', and the options by which they are moved: 'lr', 'weight_decay', ..."""

State: TypeAlias = dict[str, list[Array]]
"""By the name of a slot (a velocity, a moment), its array for each parameter."""


class Optimizer(ChecksKeywords, ABC):
    """Base of the optimisers: `step()` moves the parameters against their gradients, in place.

    `parameters` are tensors, or groups of them with options of their own: dicts with the tensors
    under 'params', as in PyTorch. They must be leaves on one device. A parameter without a gradient
    stays as it is.

    The groups are in `param_groups`, and their options may be changed between steps; schedules
    change 'lr'. `lr` reads the rate of the first group, and sets that of all.

    A subclass names its slots, checks its options and defines `_update`. See `sgd.py`.

    Raises (at construction, in one line):
        TypeError: parameters that are not tensors, options that are not numbers or flags.
        ValueError: no parameters, one given twice, results of an operation, options out of range.

    Example:
        >>> groups = [
        ...     {"params": body.parameters(), "lr": 1e-4},
        ...     {"params": head.parameters()},
        ... ]
        >>> optimizer = optim.SGD(groups, lr=1e-2, momentum=0.9)
    """

    _flags: ClassVar[tuple[str, ...]] = ("maximize",)
    """The options that are True or False; all others are numbers, but 'betas'."""

    def __init__(
        self, parameters: Iterable[Tensor] | Iterable[ParamGroup], **defaults: Any
    ) -> None:
        self.defaults = defaults
        self.param_groups: list[ParamGroup] = []
        self.parameters: list[Tensor] = []
        self.step_counts: list[int] = []
        self._members: list[list[int]] = []  # the positions of each group's parameters
        self._made: list[tuple[str, ...] | None] = []  # the slots that each group's parameters have
        self._state: dict[str, dict[int, Array]] = {}
        self._arrays: list[Any] = []  # the parameters' arrays for which the state was made
        name = type(self).__name__
        groups = self._as_groups(parameters)
        self._check_options(defaults)
        if not groups:
            raise ValueError(f"{name}: expected at least one parameter, got none")
        for group in groups:
            self.add_param_group(group)

    # --- groups -----------------------------------------------------------------------------

    def _as_groups(self, parameters: Any) -> list[ParamGroup]:
        name = type(self).__name__
        if isinstance(parameters, Mapping):
            hint = "write [group]" if "params" in parameters else "pass a list of its values"
            raise TypeError(
                f"{name}: expected tensors or a list of parameter groups, got a dict; {hint}"
            )
        if not isinstance(parameters, Iterable) or isinstance(parameters, Tensor | np.ndarray):
            return [{"params": parameters}]  # refused with the right form
        given = list(parameters)
        if given and all(isinstance(group, Mapping) for group in given):
            return [dict(group) for group in given]
        return [{"params": given}] if given else []

    def add_param_group(self, group: ParamGroup) -> None:
        """Add parameters with options of their own; what is not given is the optimiser's default.

        Nothing is added if anything is wrong with the group.

        Example:
            >>> optimizer.add_param_group({"params": head.parameters(), "lr": 1e-3})
        """
        name = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(
                f"{name}: expected a parameter group to be a dict with 'params', got {group!r:.80}"
            )
        unknown = [key for key in group if key not in ("params", "initial_lr", *self.defaults)]
        if unknown:
            raise ValueError(
                f"{name}: expected the options {', '.join(self.defaults)} in a parameter group, "
                f"got {', '.join(map(repr, unknown))}"
            )
        tensors = as_tensors(name, group["params"])
        if not tensors:
            raise ValueError(f"{name}: expected at least one parameter in a group, got none")
        for k, tensor in enumerate(tensors):
            check_parameter(name, k, tensor)
            if tensor.backend is not [*self.parameters, *tensors][0].backend:
                raise ValueError(
                    f"{name}: expected all parameters on one device, got {tensor.device!r} "
                    f"at position {k}"
                )
        if len({id(p) for p in (*self.parameters, *tensors)}) < len(self.parameters) + len(tensors):
            raise ValueError(f"{name}: expected each parameter once, got one twice")
        whole = {
            "params": tensors,
            **self.defaults,
            **{k: group[k] for k in group if k != "params"},
        }
        self._check_options(whole)
        start = len(self.parameters)
        self.parameters += tensors
        self.step_counts += [0] * len(tensors)
        self._arrays += [None] * len(tensors)
        self._members.append(list(range(start, len(self.parameters))))
        self.param_groups.append(whole)
        self._made.append(None)
        self._slots_of(len(self.param_groups) - 1)

    def _check_options(self, options: dict[str, Any]) -> None:
        """Turn options into Python's numbers and flags, and raise for those out of range."""
        name = type(self).__name__
        for key, value in options.items():
            if key in self._flags:
                if not isinstance(value, bool | np.bool_):
                    raise TypeError(f"{name}: expected {key} to be True or False, got {value!r}")
                options[key] = bool(value)
            elif key not in ("params", "betas"):
                options[key] = as_number(name, key, value)
        lr, weight_decay = options["lr"], options["weight_decay"]
        if not (lr >= 0 and weight_decay >= 0):  # NaN is refused too
            raise ValueError(
                f"{name}: expected lr and weight_decay >= 0, got {lr} and {weight_decay}"
            )

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all groups."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, lr: float) -> None:
        number = as_number(type(self).__name__, "lr", lr)
        for group in self.param_groups:
            group["lr"] = number
            group.pop("initial_lr", None)  # a schedule made from now on starts at this rate

    def __dir__(self) -> list[str]:
        return without_absent(type(self), super().__dir__())

    def __repr__(self) -> str:
        groups = [
            ", ".join(
                [
                    f"{len(group['params'])} tensor{'s' * (len(group['params']) != 1)}",
                    *(f"{k}={group[k]!r}" for k in self.defaults if k == "lr" or group[k]),
                ]
            )
            for group in self.param_groups
        ]
        return f"{type(self).__name__}({'; '.join(groups)})"

    # --- state ------------------------------------------------------------------------------

    @abstractmethod
    def _slots(self, group: ParamGroup) -> tuple[str, ...]:
        """Return the names of the arrays that are kept for each parameter of a group."""

    def _slots_of(self, position: int) -> tuple[str, ...]:
        """Return the slots of a group, after making those that an option now asks for."""
        slots = self._slots(self.param_groups[position])
        if slots != self._made[position]:
            for k in self._members[position]:
                self._make_state(slots, k)
            self._made[position] = slots
        return slots

    def _make_state(self, slots: tuple[str, ...], k: int) -> None:
        """Make what is missing of the state of a parameter, and check what is there.

        It is made with the optimiser, and the parameter may have been converted since.
        """
        parameter = self.parameters[k]
        data = parameter.data
        if not getattr(data.flags, "writeable", True):
            raise ValueError(
                f"{type(self).__name__}: expected parameters that can be written, got a read-only "
                f"array at position {k}; copy it"
            )
        xp = parameter.backend.xp
        for slot in slots:
            arrays = self._state.setdefault(slot, {})
            kept = arrays.setdefault(k, xp.zeros_like(data))
            if not isinstance(kept, xp.ndarray) or (kept.shape, kept.dtype) != (
                data.shape,
                data.dtype,
            ):
                raise RuntimeError(
                    f"{type(self).__name__}: expected parameter {k} to stay {kept.shape} "
                    f"{kept.dtype} on its device, got {data.shape} {data.dtype} on "
                    f"{parameter.device!r}; make the optimiser after converting the model"
                )
        self._arrays[k] = data

    def state_dict(self) -> dict[str, Array]:
        """Return the steps of each parameter, the rate, and copies of each parameter's slots.

        The rate is one number, or with several groups one per group. Other options belong to the
        construction of an optimiser, not to its state.
        """
        rates = [group["lr"] for group in self.param_groups]
        state: dict[str, Array] = {
            "step_counts": np.array(self.step_counts),
            "lr": np.array(rates[0] if len(rates) == 1 else rates),
        }
        for slot, k in self._kept():
            host = self.parameters[k].backend.to_host(self._state[slot][k])
            state[f"{slot}.{k}"] = host.copy()
        return state

    def _kept(self) -> list[tuple[str, int]]:
        """The slots and the parameters for which an array is kept, in the order of the state."""
        slots: dict[str, list[int]] = {}
        for position, members in enumerate(self._members):
            for slot in self._slots_of(position):
                slots.setdefault(slot, []).extend(members)
        return [(slot, k) for slot, members in slots.items() for k in sorted(members)]

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take over a `state_dict`; raises `ValueError` where names or shapes do not fit."""
        own = self.state_dict()
        if set(own) != set(state) or any(own[k].shape != np.shape(state[k]) for k in own):
            raise ValueError(
                f"{type(self).__name__}: the state is not of this optimiser and these parameters"
            )
        self.step_counts = [int(count) for count in state["step_counts"]]
        for group, lr in zip(self.param_groups, np.atleast_1d(state["lr"]), strict=True):
            group["lr"] = float(lr)
        for slot, k in self._kept():
            value = np.asarray(state[f"{slot}.{k}"])
            self._state[slot][k][...] = self.parameters[k].backend.asarray(value)

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the optimiser's parameters has arrays of its own.
        return vars(self) | {"_arrays": [None] * len(self.parameters)}

    # --- a step -----------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters:
            gradient = parameter.grad
            if set_to_none or gradient is None:
                parameter.grad = None
            else:
                parameter.grad = gradient.wrap(gradient.backend.xp.zeros_like(gradient.data))

    def step(self) -> None:
        """Make one step with the gradients that are there.

        Everything is checked first: if anything does not fit, nothing has moved.
        """
        ready = [self._ready(position) for position in range(len(self.param_groups))]
        for group, (slots, moved, arrays, gradients) in zip(self.param_groups, ready, strict=True):
            if not moved:
                continue
            if group["maximize"]:
                xp = self.parameters[0].backend.xp
                gradients = [xp.negative(g, out=xp.empty_like(g)) for g in gradients]
            counts, parameters = self.step_counts, self.parameters
            state = {}
            for slot in slots:
                kept = self._state[slot]
                state[slot] = [kept[k] for k in moved]
            self._update(group, arrays, gradients, state, [counts[k] + 1 for k in moved])
            for k in moved:
                counts[k] += 1
                parameters[k].version.count += 1

    def _ready(self, position: int) -> tuple[tuple[str, ...], list[int], list[Array], list[Array]]:
        """Check a group; return its slots, and of what will move the positions and arrays."""
        lr = self.param_groups[position]["lr"]
        if not lr >= 0:
            raise ValueError(f"{type(self).__name__}: expected lr >= 0, got {lr}")
        slots, members = self._slots_of(position), self._members[position]
        known, parameters = self._arrays, self.parameters
        moved: list[int] = []
        arrays: list[Array] = []
        gradients: list[Array] = []
        for k in members:
            parameter = parameters[k]
            gradient = parameter._grad
            if gradient is not None:
                data, array = parameter.data, gradient.data
                if data is not known[k]:
                    self._make_state(slots, k)
                if array.shape != data.shape or array.dtype is not data.dtype:
                    self._check_gradient(k, data, array)
                moved.append(k)
                arrays.append(data)
                gradients.append(array)
        return slots, moved, arrays, gradients

    def _check_gradient(self, k: int, data: Array, array: Array) -> None:
        if array.shape != data.shape or array.dtype != data.dtype:
            raise ValueError(
                f"{type(self).__name__}: expected a gradient of shape {data.shape} and dtype "
                f"{data.dtype} for parameter {k}, got {array.shape} and {array.dtype}; "
                "nothing was moved"
            )

    @abstractmethod
    def _update(
        self,
        group: ParamGroup,
        parameters: list[Array],
        gradients: list[Array],
        state: State,
        steps: list[int],
    ) -> None:
        """Move a group's arrays in place; `steps` says which step this is of each, from 1."""


mark_absent(Optimizer, OPTIMIZER)
