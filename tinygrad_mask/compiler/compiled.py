"""`compile`: a model as a function of one tensor, for evaluation."""

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tinygrad_mask.autograd import no_grad
from tinygrad_mask.backends import Array
from tinygrad_mask.compiler.fusion import fuse
from tinygrad_mask.compiler.program import build_program
from tinygrad_mask.compiler.trace import IMAGES, Graph, NotCompilableError, trace
from tinygrad_mask.nn import Module
from tinygrad_mask.tensor import Tensor

TOLERANCE = 1e-4
"""How far a program's results may be from the model's, in units of their largest value, when it is
checked; a right program is within 1e-5."""

MOST_SHAPES = 8
"""Image shapes whose programs are kept; the oldest one makes room for the next."""

MOST_SEEN = 256
"""Image shapes that are remembered as seen once."""

_Run: TypeAlias = Callable[[Tensor], Any]


class CompiledModel:
    """What `compile` returns: call it as the model is called, with one tensor.

    Safe to call from several threads.
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self._compiled = _Compiled(model)
        self._lock = threading.Lock()

    def __call__(self, x: Tensor) -> Any:
        """Return what the model returns for x (N, ...), without recording a graph.

        Raises `RuntimeError` if the model is in training mode.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"compiled model: expected a Tensor, got {type(x).__name__}")
        compiled = self._compiled
        if compiled.is_stale():
            with self._lock:
                if self._compiled.is_stale():
                    self._compiled = _Compiled(self.model)
                compiled = self._compiled
        key = (x.backend.name, x.dtype.str, *x.shape[1:])
        run = compiled.programs.get(key)
        if run is None:
            with self._lock:
                run = compiled.program(key, x)
        with no_grad():
            return run(x)

    def __reduce__(self) -> tuple[type["CompiledModel"], tuple[Module]]:
        return type(self), (self.model,)  # copies and pickles compile for themselves

    @property
    def reasons(self) -> dict[tuple[Any, ...], str]:
        """Why the model runs as it is, for each (device, dtype, *image shape) where it does."""
        return dict(self._compiled.reasons)


class _Compiled:
    """The programs made of one state of a model."""

    def __init__(self, model: Module) -> None:
        self.model = model
        self.programs: dict[tuple[Any, ...], _Run] = {}
        self.reasons: dict[tuple[Any, ...], str] = {}
        self._seen: dict[tuple[Any, ...], None] = {}
        modules = list(model.modules())
        tensors = [*model.parameters(), *model.buffers()]
        training = next((m for m in modules if m.training), None)
        if training is not None:
            raise RuntimeError(
                f"compile: expected a model in evaluation mode, got a {type(training).__name__} in "
                "training mode; call model.eval()"
            )
        self.hooked = any(m._hooks is not None for m in modules)
        # All attributes of all modules by identity, and what was written into the tensors.
        self._attributes = [(vars(m), list(map(id, vars(m).values()))) for m in modules]
        self._tensors = [(t, t.data, t.version.count) for t in tensors]

    def is_stale(self) -> bool:
        """Whether a module or a tensor of the model has changed since."""
        for attributes, ids in self._attributes:
            if list(map(id, attributes.values())) != ids:
                return True
        return any(t.data is not data or t.version.count != n for t, data, n in self._tensors)

    def program(self, key: tuple[Any, ...], x: Tensor) -> _Run:
        """Return the program for images like those of x, made now if it is worth it."""
        if key not in self.programs and self.programs and key not in self._seen:
            # It takes as long as ten images or so: for a shape that never comes again, too long.
            while len(self._seen) >= MOST_SEEN:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = None
            return self.model
        if key not in self.programs:
            while len(self.programs) >= MOST_SHAPES:
                oldest = next(iter(self.programs))
                del self.programs[oldest]
                self.reasons.pop(oldest, None)
            try:
                self.programs[key] = self._make(x)
            except (
                Exception
            ) as error:  # whatever it is, the model itself is right or says what is wrong
                self.reasons[key] = f"{type(error).__name__}: {error}"
                self.programs[key] = self.model
        return self.programs[key]

    def _make(self, x: Tensor) -> _Run:
        if self.hooked:
            raise NotCompilableError("a module with hooks")
        if x.backend.asynchronous:
            return _Recorded(self.model, x)
        kernels = getattr(x.backend, "kernels", None)
        if kernels is None:
            raise NotCompilableError(f"device {x.device}")
        if x.dtype != np.float32 or x.ndim < 2 or 0 in x.shape[1:]:
            raise NotCompilableError(f"an input of {x.dtype} and shape {x.shape}")
        graph = fuse(trace(self.model, _random(x, IMAGES, seed=0)))
        run = _Runner(graph, build_program(graph, kernels))
        # Does it do what the model does, for other images and another number of them?
        with no_grad():
            for images, seed in ((1, 1), (3, 2)):
                probe = _random(x, images, seed)
                wanted, got = _listed(self.model(probe)), _listed(run(probe))
                if not all(map(_close, wanted, got)):
                    raise NotCompilableError("results that depend on the input in another way")
        return run


def compile(model: Module) -> CompiledModel:
    """Return a faster function that computes what `model` computes in evaluation mode.

    On the CPU the network becomes one call: batch norm is folded into the convolution or linear map
    before it, residuals and activations are added where the results are made, weights are packed
    once, and the memory between the layers is planned once. That happens at the first call, and for
    other shapes of images at the second call with each; the number of images may differ from call
    to call. Results differ from the model's by rounding, some 1e-6 of the largest.

    On a GPU the kernels of the model are recorded once per shape of the batch, and replayed.

    A model that does something else (see `compiler.trace`), has hooks, or is float64 runs as it is:
    `compiled.reasons` says why. Each program is checked against the model on random inputs before
    it is used. What cannot be seen that way is a branch that depends on the values of the input: do
    not compile such a model.

    If a parameter, buffer or attribute of the model changes, it is compiled again at the next call.
    Results do not require gradients.

    Raises:
        TypeError: `model` is not a Module.
        RuntimeError: it, or a module in it, is in training mode; also at a call.

    Example:
        >>> model.eval()
        >>> fast = tg.compile(model)
        >>> scores = fast(images)
    """
    if not isinstance(model, Module):
        raise TypeError(f"compile: expected a Module, got {type(model).__name__}")
    return CompiledModel(model)


class _Runner:
    """Calls a program with arrays for its results."""

    def __init__(self, graph: Graph, program: Any) -> None:
        self.program = program
        self.structure = graph.structure
        # (rows per image, the rest) of each output.
        self.shapes = [(shape[0] // IMAGES, shape[1:]) for shape in graph.output_shapes]

    def __call__(self, x: Tensor) -> Any:
        n, array = x.shape[0], x.data
        if not (array.flags.c_contiguous and array.flags.aligned):
            array = np.array(array, order="C")
        results: list[Array] = [
            np.empty((n * rows, *rest), np.float32) for rows, rest in self.shapes
        ]
        self.program.run(array, results)
        tensors = [x.wrap(result) for result in results]
        if self.structure == "tensor":
            return tensors[0]
        return tuple(tensors) if self.structure == "tuple" else tensors


class _Recorded:
    """A model whose kernels a GPU records and replays, for each shape of a batch."""

    def __init__(self, model: Module, x: Tensor) -> None:
        self._structure: type[Any] = Tensor
        self._lock = threading.Lock()

        def step(array: Array) -> tuple[Array, ...]:
            result = model(x.wrap(array))
            self._structure = type(result) if isinstance(result, tuple | list) else Tensor
            return tuple(tensor.data for tensor in _listed(result))

        self._step = x.backend.capture(step)

    def __call__(self, x: Tensor) -> Any:
        with self._lock:  # results hold until the next replay
            tensors = [x.wrap(array.copy()) for array in self._step(x.data)]
        return tensors[0] if self._structure is Tensor else self._structure(tensors)


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


def _random(x: Tensor, images: int, seed: int) -> Tensor:
    values = np.random.default_rng(seed).standard_normal((images, *x.shape[1:]))
    return x.wrap(values.astype(np.float32))


def _close(wanted: Any, got: Tensor) -> bool:
    if not isinstance(wanted, Tensor) or wanted.shape != got.shape:
        return False
    w, g = wanted.numpy(), got.numpy()
    scale = float(np.abs(w).max(initial=0.0, where=np.isfinite(w)))
    return bool(np.allclose(g, w, rtol=0, atol=TOLERANCE * scale, equal_nan=True))
