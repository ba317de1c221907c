"""This project's side of the benchmarks."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from cases import Conv, Elementwise, GroupNorm, Network, Pool, Resized, standard_normal
from side_by_side import Side, TrainingSide

import tinygrad_mask
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.backends import Resize, Window, get_backend
from tinygrad_mask.backends.interface import Array

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class Ours(Side):
    """What networks and kernels have in common."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        tinygrad_mask.set_num_threads(threads)
        self.backend: Any = get_backend("cpu")

    def use(self, device: str) -> None:
        """Measure the kernels of a device."""
        self.backend = get_backend(device)

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.backend.asynchronous:
            self.backend.xp.cuda.get_current_stream().synchronize()

    def version(self) -> str:
        """Say what is measured."""
        kernels = getattr(self.backend, "instruction_set", "none compiled")
        return f"tinygrad_mask {tinygrad_mask.__version__} (kernels: {kernels})"


class Training(Ours, TrainingSide):
    """A network in training, and at inference."""

    def load(self, network: Network, device: str) -> dict[str, np.ndarray]:
        """Build a network with its data on a device, and return its initial weights."""
        x, y = network.data()
        self.use(device)
        self.x, self.y = Tensor(x, device=device), Tensor(y, device=device)
        self.model = build(network)
        self.model.to(device)
        self.loss = F.cross_entropy if network.kind == "cnn" else F.squared_error
        self.optimizer = optim.SGD(
            self.model.parameters(),
            network.lr,
            momentum=network.momentum,
            weight_decay=network.weight_decay,
        )
        return self.model.state_dict()

    def step(self) -> Tensor:
        """Make a training step."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss

    def prepare(self, task: tuple[str, int, bool]) -> None:
        """Get ready for ("step", 0) or ("inference", batch), recorded or not."""
        what, batch, recorded = task
        self.model.train(what == "step")
        if what == "step":
            self.run = self.recorded_step() if recorded else self.step
        else:
            x = Tensor(self.x.numpy()[:batch], device=self.backend)
            self.run = lambda: self.infer(x)
            if recorded:
                infer = self.backend.capture(lambda x: (self.infer(self.x.wrap(x)).data,))
                self.run = lambda: self.x.wrap(infer(x.data)[0])

    def recorded_step(self) -> Callable[[], Array]:
        """Return a step whose gradients are replayed as they were recorded, as in `Trainer`."""
        parameters = self.model.parameters()

        def compute(x: Array, y: Array) -> tuple[Array, ...]:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(self.x.wrap(x)), self.y.wrap(y))
            loss.backward()
            return loss.data, *(p.grad.data for p in parameters)

        gradients = self.backend.capture(compute)

        def step() -> Array:
            loss, *arrays = gradients(self.x.data, self.y.data)
            for parameter, array in zip(parameters, arrays, strict=True):
                parameter.grad = parameter.wrap(array)
            self.optimizer.step()
            return loss

        return step

    def infer(self, x: Tensor) -> Tensor:
        """Return the scores of images."""
        with tinygrad_mask.no_grad():
            return self.model(x)

    def scores(self) -> np.ndarray:
        """Return what `run` says of each image."""
        return self.run().numpy()


def build(network: Network) -> nn.Sequential:
    """Build a network with initial weights."""
    rng = np.random.default_rng(1)
    activation = ACTIVATIONS[network.activation]
    glorot = nn.init.glorot_uniform
    init = nn.init.he_normal if network.activation == "relu" else glorot
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in network.channels:
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, init=init, rng=rng),
            activation(),
            nn.MaxPool2d(2),
        ]
        inputs = outputs
    bias = network.kind == "cnn"
    layers += [
        nn.Flatten(),
        nn.Linear(int(np.prod(network.flattened())), network.hidden, bias=bias, init=init, rng=rng),
        activation(),
        nn.Linear(network.hidden, network.classes, bias=bias, init=glorot, rng=rng),
    ]
    return nn.Sequential(*layers)


class Kernels(Ours):
    """Single kernels, one at a time."""

    def around(self) -> AbstractContextManager[Any]:
        """Return the context in which an operation calls the kernels."""
        return self.backend.computing()

    def prepare(self, task: tuple[Conv | Pool | Elementwise | GroupNorm | Resized, str]) -> None:
        """Get ready for a direction of a case: on a GPU, to replay it as it was recorded."""
        case, direction = task
        with self.around():
            if isinstance(case, Conv):
                self.prepare_conv(case, direction)
            elif isinstance(case, Pool):
                self.prepare_pool(case, direction)
            elif isinstance(case, GroupNorm):
                self.prepare_group_norm(case, direction)
            elif isinstance(case, Resized):
                self.prepare_resized(case, direction)
            else:
                self.prepare_elementwise(case, direction)
        if self.backend.asynchronous:
            call = self.run
            self.run = self.backend.capture(lambda: as_tuple(call()))
            self.run()

    def arrays(self, case: Conv | Pool | Elementwise | GroupNorm | Resized) -> list[Any]:
        """Return the arrays of a case, on the device."""
        return [self.backend.asarray(array) for array in case.arrays()]

    def prepare_conv(self, case: Conv, direction: str) -> None:
        """Get ready for a convolution."""
        x, weight, bias, grad = self.arrays(case)
        rows, columns = case.padding
        window = Window(
            case.size,
            (case.stride,) * 2,
            ((rows, rows), (columns, columns)),
            (case.dilation,) * 2,
        )
        backend, groups = self.backend, case.groups
        self.run = {
            "forward": lambda: backend.conv2d(x, weight, bias, window, groups),
            "grad_input": lambda: backend.conv2d_grad_input(grad, weight, x.shape, window, groups),
            "grad_weight": lambda: backend.conv2d_grad_weight(
                grad, x, weight.shape, window, groups
            ),
        }[direction]

    def prepare_pool(self, case: Pool, direction: str) -> None:
        """Get ready for a pooling."""
        x, grad = self.arrays(case)
        pad = case.padding
        window = Window((case.kernel,) * 2, (case.stride,) * 2, padding=((pad, pad), (pad, pad)))
        backend = self.backend
        if case.kind == "max":
            _, taps = backend.max_pool2d(x, window)
            self.run = {
                "forward": lambda: backend.max_pool2d(x, window)[:1],
                "grad_input": lambda: backend.max_pool2d_grad(grad, taps, x.shape, window),
            }[direction]
        else:
            self.run = {
                "forward": lambda: backend.avg_pool2d(x, window, True),
                "grad_input": lambda: backend.avg_pool2d_grad(grad, x.shape, window, True),
            }[direction]

    def prepare_group_norm(self, case: GroupNorm, direction: str) -> None:
        """Get ready for a normalisation."""
        x, weight, bias, grad = self.arrays(case)
        x, grad = (a.reshape(case.n, case.h * case.w, case.c) for a in (x, grad))
        backend = self.backend
        _, mean, inverse_std = backend.group_norm(x, weight, bias, case.groups, 1e-5)
        self.run = {
            "forward": lambda: backend.group_norm(x, weight, bias, case.groups, 1e-5)[:1],
            "gradients": lambda: backend.group_norm_grad(grad, x, weight, mean, inverse_std),
        }[direction]

    def prepare_resized(self, case: Resized, direction: str) -> None:
        """Get ready for images of another size."""
        x, grad = self.arrays(case)
        backend = self.backend
        resize = Resize((2 * case.h, 2 * case.w), (0.5, 0.5), case.mode == "bilinear")
        self.run = {
            "forward": lambda: backend.interpolate(x, resize),
            "grad_input": lambda: backend.interpolate_grad(grad, x.shape, resize),
        }[direction]

    def prepare_elementwise(self, case: Elementwise, direction: str) -> None:
        """Get ready for an activation."""
        x, grad = self.arrays(case)
        forward = getattr(self.backend, case.name)
        backward = getattr(self.backend, f"{case.name}_grad")
        y = forward(x)
        self.run = {"forward": lambda: forward(x), "grad_input": lambda: backward(grad, y)}[
            direction
        ]

    def result(self, most: int) -> list[np.ndarray]:
        """Return, of each array that the call returns, the first elements."""
        with self.around():
            results = as_tuple(self.run())
        return [np.array(self.backend.to_host(array).reshape(-1)[:most]) for array in results]


class Gpu(Ours):
    """What the GPU can do: cuBLAS' matrix product, by way of CuPy, and CuPy's copy."""

    def version(self) -> str:
        """Say what is measured."""
        return f"{self.backend.xp.__name__} {self.backend.xp.__version__}"

    def prepare(self, task: tuple[str, int]) -> None:
        """Get ready for ("sgemm", rows and columns) or ("copy", bytes read and written)."""
        what, size = task
        if what == "sgemm":
            a, b = map(self.backend.asarray, standard_normal((size, size), (size, size)))
            self.run = lambda: self.backend.xp.matmul(a, b)
        else:
            source = self.backend.asarray(np.ones(max(size // 8, 1), np.float32))
            target = source.copy()
            self.run = lambda: self.backend.xp.copyto(target, source)


def as_tuple(results: Any) -> tuple[Any, ...]:
    """Return a kernel's results as a tuple, also a single one."""
    return results if isinstance(results, tuple) else (results,)
