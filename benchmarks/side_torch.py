"""PyTorch's side of the benchmarks, in its two layouts: contiguous (NCHW) and channels_last."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import Conv, Elementwise, GroupNorm, Network, Pool, Resized
from side_by_side import Side, TrainingSide
from torch import nn

aten = torch.ops.aten
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class Torch(Side):
    """What networks and kernels have in common."""

    layout = torch.contiguous_format
    device = "cpu"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

    def use(self, device: str) -> None:
        """Compute on a device; on a GPU cuDNN tries its algorithms out, and all is float32."""
        self.device = device
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def version(self) -> str:
        """Say what is measured."""
        return f"PyTorch {torch.__version__}"

    def images(self, nhwc: np.ndarray) -> torch.Tensor:
        """Return images, or their gradients, as NCHW in this side's layout."""
        nchw = torch.from_numpy(nhwc).to(self.device).permute(0, 3, 1, 2)
        return nchw.contiguous(memory_format=self.layout)

    def weights(self, hwio: np.ndarray) -> torch.Tensor:
        """Return the weights of a convolution as OIHW in this side's layout."""
        oihw = torch.from_numpy(hwio).to(self.device).permute(3, 2, 0, 1)
        return oihw.contiguous(memory_format=self.layout)


# --- networks -------------------------------------------------------------------------------------


class Training(Torch, TrainingSide):
    """A network in training, and at inference."""

    def load(self, network: Network, device: str, weights: dict[str, np.ndarray]) -> None:
        """Build a network with its data on a device and the initial weights of the other side."""
        self.use(device)
        x, y = network.data()
        self.x = self.images(x) if x.ndim == 4 else torch.from_numpy(x).to(device)
        self.y = torch.from_numpy(y).to(device)
        self.model = build(network)
        self.model.load_state_dict(converted(network, weights))
        self.model.to(device, memory_format=self.layout)
        self.cross_entropy = network.kind == "cnn"
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            network.lr,
            momentum=network.momentum,
            weight_decay=network.weight_decay,
            fused=network.momentum > 0,  # without momentum the fused update is the slower one
        )

    def step(self) -> torch.Tensor:
        """Make a training step."""
        self.optimizer.zero_grad(set_to_none=True)
        scores = self.model(self.x)
        if self.cross_entropy:
            loss = F.cross_entropy(scores, self.y)
        else:
            loss = F.mse_loss(scores, self.y, reduction="sum") / (2 * len(scores))
        loss.backward()
        self.optimizer.step()
        return loss

    def prepare(self, task: tuple[str, int, bool]) -> None:
        """Get ready for ("step", 0) or ("inference", batch), recorded or not."""
        what, batch, recorded = task
        self.model.train(what == "step")
        if what == "step":
            self.run = self.step
        else:
            x = self.x[:batch].contiguous(memory_format=self.layout)
            self.run = lambda: self.infer(x)
        if recorded:
            self.run = record(self.run)

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of images."""
        with torch.inference_mode():
            return self.model(x)

    def scores(self) -> np.ndarray:
        """Return what `run` says of each image."""
        return self.run().cpu().numpy()


class TrainingChannelsLast(Training):
    """The same with images and weights in the layout NHWC."""

    layout = torch.channels_last


def record(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that replays what a call does on the GPU, as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # what is only done once is not to be recorded
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def build(network: Network) -> nn.Sequential:
    """Build a network; each layer is where the other side has it too."""
    activation = ACTIVATIONS[network.activation]
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in network.channels:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), activation(), nn.MaxPool2d(2)]
        inputs = outputs
    bias = network.kind == "cnn"
    layers += [
        nn.Flatten(),
        nn.Linear(int(np.prod(network.flattened())), network.hidden, bias=bias),
        activation(),
        nn.Linear(network.hidden, network.classes, bias=bias),
    ]
    return nn.Sequential(*layers)


def converted(network: Network, weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the other side's weights in PyTorch's order of axes.

    HWIO becomes OIHW, and (inputs, outputs) its transpose. The first dense layer after images sees
    them channel by channel, so that its inputs change places.
    """
    height, width, channels = network.flattened()
    state = {}
    for name, array in weights.items():
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif array.ndim == 2:
            if network.channels and len(array) == height * width * channels:
                array = array.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
                array = array.reshape(height * width * channels, -1)
            array = array.T
        state[name] = torch.from_numpy(np.ascontiguousarray(array))
    return state


# --- kernels --------------------------------------------------------------------------------------


class Kernels(Torch):
    """Single kernels, one at a time."""

    def around(self) -> AbstractContextManager[Any]:
        """Return the context in which the calls cost least."""
        return torch.inference_mode()

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
            if self.device == "cuda":
                self.run = record(self.run)

    def prepare_conv(self, case: Conv, direction: str) -> None:
        """Get ready for a convolution; the gradient of the bias comes with that of the weight."""
        x, weight, bias, grad = case.arrays()
        x, weight, grad = self.images(x), self.weights(weight), self.images(grad)
        bias = torch.from_numpy(bias).to(self.device)
        stride, dilation = [case.stride] * 2, [case.dilation] * 2
        padding, groups = list(case.padding), case.groups

        def backward(*wanted: bool) -> list[torch.Tensor]:
            return aten.convolution_backward(
                grad,
                x,
                weight,
                [case.o],
                stride,
                padding,
                dilation,
                False,
                [0, 0],
                groups,
                wanted,
            )

        self.run = {
            "forward": lambda: (F.conv2d(x, weight, bias, stride, padding, dilation, groups),),
            "grad_input": lambda: backward(True, False, False)[:1],
            "grad_weight": lambda: backward(False, True, True)[1:],
        }[direction]

    def prepare_pool(self, case: Pool, direction: str) -> None:
        """Get ready for a pooling."""
        x, grad = map(self.images, case.arrays())
        window = [case.kernel] * 2, [case.stride] * 2, [case.padding] * 2
        if case.kind == "max":
            rest = (*window, [1, 1], False)
            _, indices = aten.max_pool2d_with_indices(x, *rest)
            self.run = {
                "forward": lambda: aten.max_pool2d_with_indices(x, *rest)[:1],
                "grad_input": lambda: (
                    aten.max_pool2d_with_indices_backward(grad, x, *rest, indices),
                ),
            }[direction]
        else:
            rest = (*window, False, True, None)
            self.run = {
                "forward": lambda: (aten.avg_pool2d(x, *rest),),
                "grad_input": lambda: (aten.avg_pool2d_backward(grad, x, *rest),),
            }[direction]

    def prepare_group_norm(self, case: GroupNorm, direction: str) -> None:
        """Get ready for a normalisation; of rows by PyTorch's layer normalisation."""
        x, weight, bias, grad = case.arrays()
        weight, bias = (torch.from_numpy(a).to(self.device) for a in (weight, bias))
        if case.h * case.w == case.groups == 1:
            x, grad = (torch.from_numpy(a).to(self.device).flatten(1) for a in (x, grad))
            rest = ([case.c], weight, bias, 1e-5)
            _, mean, rstd = torch.native_layer_norm(x, *rest)
            self.run = {
                "forward": lambda: torch.native_layer_norm(x, *rest)[:1],
                "gradients": lambda: aten.native_layer_norm_backward(
                    grad, x, [case.c], mean, rstd, weight, bias, [True] * 3
                ),
            }[direction]
            return
        x, grad = self.images(x), self.images(grad)
        sizes = (case.n, case.c, case.h * case.w, case.groups)
        _, mean, rstd = torch.native_group_norm(x, weight, bias, *sizes, 1e-5)
        self.run = {
            "forward": lambda: torch.native_group_norm(x, weight, bias, *sizes, 1e-5)[:1],
            "gradients": lambda: aten.native_group_norm_backward(
                grad, x, mean, rstd, weight, *sizes, [True] * 3
            ),
        }[direction]

    def prepare_resized(self, case: Resized, direction: str) -> None:
        """Get ready for images of another size."""
        x, grad = map(self.images, case.arrays())
        size = [2 * case.h, 2 * case.w]
        rest = (False,) if case.mode == "bilinear" else ()
        forward = getattr(aten, f"upsample_{case.mode}2d")
        backward = getattr(aten, f"upsample_{case.mode}2d_backward")
        self.run = {
            "forward": lambda: (forward(x, size, *rest),),
            "grad_input": lambda: (backward(grad, size, list(x.shape), *rest),),
        }[direction]

    def prepare_elementwise(self, case: Elementwise, direction: str) -> None:
        """Get ready for an activation."""
        x, grad = (torch.from_numpy(array).to(self.device) for array in case.arrays())
        if case.name == "sigmoid":
            y = torch.sigmoid(x)
            self.run = {
                "forward": lambda: (torch.sigmoid(x),),
                "grad_input": lambda: (aten.sigmoid_backward(grad, y),),
            }[direction]
        else:
            y = torch.relu(x)
            self.run = {
                "forward": lambda: (torch.relu(x),),
                "grad_input": lambda: (aten.threshold_backward(grad, y, 0),),
            }[direction]

    def result(self, most: int) -> list[np.ndarray]:
        """Return, of each array that the call returns, the first elements in the other's order."""
        with self.around():
            results = self.run()
        arrays = []
        for result in results:
            if result.ndim == 4:
                is_weight = len(results) == 2  # with the bias
                result = result.permute(2, 3, 1, 0) if is_weight else result.permute(0, 2, 3, 1)
            arrays.append(result.reshape(-1)[:most].cpu().numpy().copy())
        return arrays


class KernelsChannelsLast(Kernels):
    """The same with images and weights in the layout NHWC."""

    layout = torch.channels_last
