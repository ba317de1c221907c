"""This project's side of the benchmarks."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from problems import Conv, Elementwise, Network, Pool
from side_by_side import Side, TrainingSide

import tinygrad_mask
import tinygrad_mask.functions as F
from tinygrad_mask import Tensor, nn, optim
from tinygrad_mask.backends import Window, get_backend

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class Ours(Side):
    """What networks and kernels have in common."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        tinygrad_mask.set_num_threads(threads)
        self.backend: Any = get_backend("cpu")

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
        self.backend = get_backend(device)
        self.x, self.y = Tensor(x, device=device), Tensor(y, device=device)
        self.model = build(network)
        self.model.to(device)
        self.cross_entropy = network.kind == "cnn"
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
        scores = self.model(self.x)
        loss = F.cross_entropy if self.cross_entropy else F.squared_error
        value = loss(scores, self.y)
        value.backward()
        self.optimizer.step()
        return value

    def prepare(self, task: tuple[str, int]) -> None:
        """Get ready for ("step", 0) or ("inference", batch)."""
        what, batch = task
        self.model.train(what == "step")
        if what == "step":
            self.run = self.step
        else:
            x = Tensor(self.x.numpy()[:batch], device=self.backend)
            self.run = lambda: self.infer(x)

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

    def prepare(self, task: tuple[Conv | Pool | Elementwise, str]) -> None:
        """Get ready for a direction of a problem."""
        problem, direction = task
        with self.around():
            if isinstance(problem, Conv):
                self.prepare_conv(problem, direction)
            elif isinstance(problem, Pool):
                self.prepare_pool(problem, direction)
            else:
                self.prepare_elementwise(problem, direction)

    def prepare_conv(self, problem: Conv, direction: str) -> None:
        """Get ready for a convolution."""
        x, weight, bias, grad = problem.arrays()
        rows, columns = problem.padding
        window = Window(
            problem.size,
            (problem.stride,) * 2,
            ((rows, rows), (columns, columns)),
            (problem.dilation,) * 2,
        )
        backend, groups = self.backend, problem.groups
        self.run = {
            "forward": lambda: backend.conv2d(x, weight, bias, window, groups),
            "grad_input": lambda: backend.conv2d_grad_input(grad, weight, x.shape, window, groups),
            "grad_weight": lambda: backend.conv2d_grad_weight(
                grad, x, weight.shape, window, groups
            ),
        }[direction]

    def prepare_pool(self, problem: Pool, direction: str) -> None:
        """Get ready for a pooling."""
        x, grad = problem.arrays()
        pad = problem.padding
        window = Window(
            (problem.kernel,) * 2, (problem.stride,) * 2, padding=((pad, pad), (pad, pad))
        )
        backend = self.backend
        if problem.kind == "max":
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

    def prepare_elementwise(self, problem: Elementwise, direction: str) -> None:
        """Get ready for an activation."""
        x, grad = problem.arrays()
        forward = getattr(self.backend, problem.name)
        backward = getattr(self.backend, f"{problem.name}_grad")
        y = forward(x)
        self.run = {"forward": lambda: forward(x), "grad_input": lambda: backward(grad, y)}[
            direction
        ]

    def result(self, most: int) -> list[np.ndarray]:
        """Return, of each array that the call returns, the first elements."""
        with self.around():
            results = self.run()
        results = results if isinstance(results, tuple) else (results,)
        return [np.array(array.reshape(-1)[:most]) for array in results]
