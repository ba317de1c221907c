"""What to use for names of PyTorch, NumPy and Keras that do not exist here.

Names of layers are in `nn.equivalents`, names of optimisers and schedules in `optim`.
"""

import sys
from collections.abc import Iterable, Mapping
from inspect import getattr_static
from opcode import opmap
from types import FrameType
from typing import Any, NoReturn

_DTYPES = {
    **{name: name for name in ("float32", "float64", "int32", "int64", "uint8")},
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "long": "int64",
    "bool": "bool_",
}
_HALF = "there is none; floats are float32 or float64"
_BY_NUMPY = "use tensor() of what NumPy returns, for instance tensor(numpy.{0}(...))"

PACKAGE = {
    **{name: f"use numpy.{dtype}, as in dtype=numpy.{dtype}" for name, dtype in _DTYPES.items()},
    **dict.fromkeys(("half", "float16", "bfloat16"), _HALF),
    **{name: _BY_NUMPY.format(name) for name in ("linspace", "logspace", "tril", "triu", "diag")},
    # Tensors.
    "Variable": "use Tensor(data, requires_grad=True)",
    "FloatTensor": "use tensor(data, dtype=numpy.float32)",
    "DoubleTensor": "use tensor(data, dtype=numpy.float64)",
    "LongTensor": "use tensor(data, dtype=numpy.int64)",
    "IntTensor": "use tensor(data, dtype=numpy.int32)",
    "BoolTensor": "use tensor(data, dtype=bool)",
    "constant": "use tensor(data)",
    "array": "use tensor(data)",
    "asarray": "use tensor(data), which copies, or from_numpy(array), which shares its memory",
    "as_tensor": "use tensor(data), which copies, or from_numpy(array), which shares its memory",
    "convert_to_tensor": "use tensor(data)",
    "empty": "use zeros(size)",
    "empty_like": "use zeros_like(x)",
    "full_like": "use full(x.shape, value, dtype=x.dtype, device=x.device)",
    "randn_like": "use randn(x.shape, dtype=x.dtype, device=x.device)",
    "rand_like": "use rand(x.shape, dtype=x.dtype, device=x.device)",
    "normal": "use randn(size) * std + mean",
    "randint": "use tensor(rng.integers(low, high, size)), where rng = default_generator()",
    "randperm": "use tensor(rng.permutation(n)), where rng = default_generator()",
    "multinomial": "use tensor(rng.choice(n, size, p=p)), where rng = default_generator()",
    "bernoulli": "use rand(size) < p",
    "is_tensor": "use isinstance(x, Tensor)",
    "numel": "use x.size",
    # Devices and dtypes.
    "cuda": "use device='cuda', or 'auto', as in tensor(data, device='cuda') and model.to('cuda')",
    "cpu": "use device='cpu', as in tensor(data, device='cpu') and model.to('cpu')",
    "mps": "there is none; devices are 'cpu', 'cuda' and 'emulator'",
    "device": "devices are given by name: 'cpu', 'cuda', 'emulator' or 'auto'",
    "dtype": "dtypes are NumPy's, for instance numpy.float32",
    "set_default_dtype": "there is none; pass dtype=, or model.double()",
    "get_default_dtype": "floats are numpy.float32 unless dtype= says otherwise",
    "set_default_device": "there is none; pass device=",
    "amp": "there is none; kernels compute in float32 or float64",
    "autocast": "there is none; kernels compute in float32 or float64",
    # Gradients and random numbers.
    "grad": "use autograd.grad(outputs, inputs)",
    "inference_mode": "use no_grad()",
    "GradientTape": "there is none; operations are recorded as they run, call loss.backward()",
    "Generator": "use numpy.random.default_rng(seed), as rng=",
    "seed": "use manual_seed(n)",
    "set_seed": "use manual_seed(n)",
    "set_random_seed": "use manual_seed(n)",
    # Packages.
    "F": "import tinygrad_mask.functions as F",
    "functional": "import tinygrad_mask.functions as F",
    "numpy": "import numpy",
    "utils": "loaders are in data, for instance data.DataLoader; clipping is optim.clip_grad_norm",
    "layers": "layers are in nn, for instance nn.Linear",
    "losses": "losses are in nn, for instance nn.CrossEntropyLoss",
    "activations": "activations are in functions, for instance functions.relu",
    "initializers": "initial weights are in nn.init",
    "optimizers": "optimisers are in optim, for instance optim.Adam",
    "callbacks": "callbacks are in training, next to training.Trainer",
    "models": "derive from nn.Module, or use nn.Sequential",
    "keras": "layers are in nn, optimisers in optim, and the loop is training.Trainer",
    "jit": "use compile(model), which makes a model for evaluation",
    "func": "there is none; derivatives are autograd.grad(outputs, inputs, create_graph=True)",
    "vmap": "there is none; functions take a batch as the first axis",
    "get_num_interop_threads": "use get_num_threads()",
    "save_weights": "use save(model.state_dict(), path)",
    "load_weights": "use model.load_state_dict(load(path))",
}

_CUSTOM = "there is none; derive a primitive from Function"
_ON_ARRAYS = "there is none with a gradient; use NumPy on x.numpy()"

FUNCTIONS = {
    **dict.fromkeys(("sin", "cos", "tan", "arctan", "atan", "floor", "ceil", "sign"), _CUSTOM),
    **dict.fromkeys(("sort", "argsort", "topk", "median", "nonzero", "unique"), _ON_ARRAYS),
    # The same function by another name.
    "absolute": "use functions.abs",
    "amax": "use functions.max",
    "amin": "use -functions.max(-x)",
    "clamp": "use functions.clip",
    "concat": "use functions.concatenate",
    "hstack": "use functions.concatenate",
    "vstack": "use functions.concatenate",
    "div": "use functions.divide",
    "true_divide": "use functions.divide",
    "sub": "use functions.subtract",
    "mul": "use functions.multiply",
    "neg": "use functions.negative",
    "pow": "use functions.power",
    "mm": "use functions.matmul",
    "bmm": "use functions.matmul",
    "dot": "use functions.matmul",
    "inner": "use functions.matmul",
    "square": "write x * x",
    "reciprocal": "write 1 / x",
    "rsqrt": "write 1 / x.sqrt()",
    "log1p": "write (1 + x).log()",
    "expm1": "write x.exp() - 1",
    "log2": "write x.log() / math.log(2)",
    "log10": "write x.log() / math.log(10)",
    "swapaxes": "use functions.permute",
    "moveaxis": "use functions.permute",
    "tile": "use functions.broadcast_to, then reshape; or functions.concatenate",
    "repeat": "use functions.broadcast_to, then reshape; or functions.concatenate",
    "expand_dims": "use functions.reshape",
    "index_select": "write x[:, index]",
    "masked_select": "write x[mask]",
    # Activations.
    "swish": "use functions.silu",
    "relu6": "use functions.clip(x, 0, 6)",
    "hard_tanh": "use functions.hardtanh",
    "hardsigmoid": "write (x / 6 + 0.5).clip(0, 1)",
    "hard_sigmoid": "write (x / 6 + 0.5).clip(0, 1)",
    "hardswish": "write x * (x / 6 + 0.5).clip(0, 1)",
    "mish": "write x * functions.softplus(x).tanh()",
    "logsigmoid": "write -functions.softplus(-x)",
    "log_sigmoid": "write -functions.softplus(-x)",
    "softmin": "use functions.softmax(-x)",
    "softsign": "write x / (1 + x.abs())",
    "tanhshrink": "write x - x.tanh()",
    "selu": "use functions.elu",
    "celu": "use functions.elu",
    "prelu": "use functions.where(x > 0, x, slope * x)",
    "rrelu": "use functions.leaky_relu",
    "threshold": "use functions.where",
    # Losses.
    "binary_cross_entropy": "use functions.binary_cross_entropy_with_logits on logits",
    "binary_crossentropy": "use functions.binary_cross_entropy_with_logits on logits",
    "categorical_crossentropy": "use functions.cross_entropy on logits",
    "sparse_categorical_crossentropy": "use functions.cross_entropy on logits",
    "mean_squared_error": "use functions.mse_loss",
    "mean_absolute_error": "use functions.l1_loss",
    "huber_loss": "use functions.smooth_l1_loss(beta=), which is the Huber loss over beta",
    "kl_div": "use functions.cross_entropy with soft targets, which differs by a constant",
    # Layers.
    "conv1d": "use functions.conv2d on x.reshape(N, 1, length, C)",
    "conv3d": "there is none; images are two-dimensional here",
    "adaptive_max_pool2d": "use x.max(axis=(1, 2)) per image, or functions.max_pool2d",
    "upsample": "use functions.interpolate",
    "instance_norm": "use functions.group_norm with one channel per group",
    "rms_norm": "write x / ((x * x).mean(-1, keepdims=True) + eps).sqrt()",
    "cosine_similarity": "divide both by the root of their sum of squares, multiply, and sum",
    "pairwise_distance": "write ((x - y) ** 2).sum(-1).sqrt()",
    "scaled_dot_product_attention": "write functions.softmax(q @ k.permute(...) / d**0.5) @ v",
    "dropout2d": "multiply by functions.dropout of ones of shape (N, 1, 1, C)",
    "pixel_shuffle": "use functions.reshape and functions.permute",
}

TENSOR = {
    # Dtypes and devices.
    "float": "use astype(numpy.float32)",
    "double": "use astype(numpy.float64)",
    "long": "use astype(numpy.int64)",
    "int": "use astype(numpy.int32)",
    "bool": "use astype(bool)",
    "half": _HALF,
    "type": "use dtype, or astype(dtype) to convert",
    "type_as": "use astype(other.dtype)",
    "is_cuda": "use device == 'cuda'",
    "get_device": "use device, a name",
    "is_floating_point": "use dtype.kind == 'f'",
    "element_size": "use dtype.itemsize",
    "itemsize": "use dtype.itemsize",
    "nelement": "use size, a number",
    "nbytes": "use size * dtype.itemsize",
    "pin_memory": "leave it out; to(device) does what is needed",
    "share_memory_": "there is none; send x.numpy() to other processes",
    # In place.
    "add_": "write x += y",
    "sub_": "write x -= y",
    "mul_": "write x *= y",
    "div_": "write x /= y",
    "pow_": "write x **= y",
    "fill_": "write x[...] = value",
    "zero_": "write x[...] = 0",
    "clamp_": "write x.copy_(x.clip(low, high))",
    "clip_": "write x.copy_(x.clip(low, high))",
    "normal_": "use copy_(tinygrad_mask.randn(x.shape))",
    "uniform_": "use copy_(tinygrad_mask.rand(x.shape))",
    "assign": "use copy_(value)",
    "detach_": "write x = x.detach()",
    "masked_fill_": "write x[mask] = value",
    "unsqueeze_": "write x = x[None], or x.reshape(...)",
    "squeeze_": "write x = x.reshape(...)",
    # Operators.
    "add": "write x + y",
    "sub": "write x - y",
    "subtract": "write x - y",
    "mul": "write x * y",
    "multiply": "write x * y",
    "div": "write x / y",
    "divide": "write x / y",
    "pow": "write x ** y",
    "neg": "write -x",
    "mm": "write x @ y",
    "bmm": "write x @ y",
    "dot": "write x @ y",
    "matmul": "write x @ y",
    "eq": "write x == y",
    "ne": "write x != y",
    "lt": "write x < y",
    "le": "write x <= y",
    "gt": "write x > y",
    "ge": "write x >= y",
    "square": "write x * x",
    "reciprocal": "write 1 / x",
    "rsqrt": "write 1 / x.sqrt()",
    "equal": "write (x.numpy() == y.numpy()).all()",
    "allclose": "use numpy.allclose(x, y)",
    # Shapes and elements.
    "t": "use T",
    "mT": "use permute(axes)",
    "contiguous": "leave it out; functions take any layout",
    "is_contiguous": "leave it out; functions take any layout",
    "stride": "use numpy().strides, in bytes",
    "ravel": "use reshape(-1)",
    "swapaxes": "use permute(axes)",
    "moveaxis": "use permute(axes)",
    "repeat": "use functions.concatenate([x] * n, axis)",
    "tile": "use functions.concatenate([x] * n, axis)",
    "view_as": "use reshape(other.shape)",
    "reshape_as": "use reshape(other.shape)",
    "expand_as": "use broadcast_to(other.shape)",
    "index_select": "write x[:, index]",
    "masked_select": "write x[mask]",
    "where": "use functions.where(condition, x, y)",
    "pad": "use functions.pad(x, ...)",
    "copy": "use copy.deepcopy(x), or x.detach() to share memory",
    "new_zeros": "use tinygrad_mask.zeros(size, dtype=x.dtype, device=x.device)",
    "new_ones": "use tinygrad_mask.ones(size, dtype=x.dtype, device=x.device)",
    "new_full": "use tinygrad_mask.full(size, value, dtype=x.dtype, device=x.device)",
    "new_tensor": "use tinygrad_mask.tensor(data, dtype=x.dtype, device=x.device)",
    # Functions.
    **dict.fromkeys(("sin", "cos", "tan", "floor", "ceil", "sign"), _CUSTOM),
    **dict.fromkeys(("sort", "argsort", "topk", "median", "nonzero", "unique"), _ON_ARRAYS),
    "clamp": "use clip(low, high)",
    "amax": "use max(axis)",
    "log_softmax": "use functions.log_softmax(x)",
    "logsumexp": "use functions.logsumexp(x)",
    # Gradients.
    "grad_fn": "use node, which is None for a leaf",
    "register_hook": "use retain_grad(), and read grad after backward()",
    "retains_grad": "use retain_grad()",
    "gradient": "use grad, after backward()",
}


MODULE = {
    "fit": "use training.Trainer(model, optimizer, loss, batches, epochs=epochs).run()",
    "predict": "call the model, within no_grad() and after eval()",
    "evaluate": "use evaluate(batches) of a training.Trainer",
    "compile": "use tinygrad_mask.compile(model), which makes a model for evaluation",
    "summary": "use print(model)",
    "count_params": "use parameter_count()",
    "get_weights": "use state_dict()",
    "set_weights": "use load_state_dict(state)",
    "save": "use tinygrad_mask.save(model, path)",
    "save_weights": "use tinygrad_mask.save(model, path)",
    "load_weights": "use load_state_dict(tinygrad_mask.load(path))",
    "trainable_variables": "use parameters(), a list",
    "trainable_weights": "use parameters(), a list",
    **dict.fromkeys(("half", "bfloat16"), _HALF),
    "type": "use float() or double()",
    "register_backward_hook": "use register_full_backward_hook(hook)",
    "share_memory": "there is none; send state_dict() to other processes",
}

OPTIMIZER = {
    "minimize": "use loss.backward(), then step()",
    "apply_gradients": "assign grad of each parameter, then use step()",
    "learning_rate": "use lr",
    "state": "use state_dict()",
}

TRAINER = {
    **dict.fromkeys(("train", "fit"), "use run()"),
    **dict.fromkeys(("test", "validate"), "use evaluate(batches)"),
    "predict": "call the model, within no_grad() and after model.eval()",
    "save_checkpoint": "use save(path), or callbacks=[Checkpoint(path)]",
    "resume": "use load(path), then run()",
}

DATA = {
    "Dataloader": "use data.DataLoader",
    "dataset": "use data.Dataset",
    "IterableDataset": "there is none; a data set has a length and items by index",
    "ConcatDataset": "there is none; derive a class with __len__ and __getitem__",
    "StackDataset": "use data.ArrayDataset or data.TensorDataset",
    "RandomSampler": "use data.DataLoader(dataset, shuffle=True)",
    "SequentialSampler": "leave it out; a data.DataLoader goes through the items in order",
    "BatchSampler": "use data.DataLoader(dataset, batch_size, sampler=indices)",
    "SubsetRandomSampler": "use data.Subset(dataset, indices), with shuffle=True",
    "WeightedRandomSampler": "use sampler=rng.choice(len(dataset), size, p=p)",
    "train_test_split": "use data.random_split(dataset, [0.8, 0.2])",
    "batch": "use data.DataLoader(dataset, batch_size)",
}

TRAINING = {
    "EarlyStopping": "there is none; the example of training.Callback is one",
    "ModelCheckpoint": "use training.Checkpoint(path)",
    "LearningRateScheduler": "use training.EpochSchedule of a schedule in optim",
    "LearningRateMonitor": "leave it out; each row of the history has its learning rate",
    "ReduceLROnPlateau": "use training.EpochSchedule of optim.ReduceLROnPlateau",
    "ProgressBar": "use training.ProgressLine()",
    "TQDMProgressBar": "use training.ProgressLine()",
    "History": "leave it out; run() returns the history",
    "CSVLogger": "there is none; run() returns the history, a list of dicts",
    "TensorBoard": "there is none; run() returns the history, a list of dicts",
    "StochasticWeightAveraging": "use training.WeightAverage",
    "ExponentialMovingAverage": "use training.WeightAverage",
    "GradientClipping": "use training.ClipGradNorm",
    "fit": "use training.Trainer(...).run()",
}


class Absent:
    """The place of an attribute that does not exist: whoever asks for it is told what to use.

    A descriptor per name costs other attributes nothing, while a `__getattr__` on the class would
    make every attribute of every tensor slower (twice as slow in CPython 3.11).
    """

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        raise AttributeError(
            f"{owner.__name__} has no attribute {self.name!r}; {self.hint}", name=self.name
        )


def mark_absent(kind: type, hints: Mapping[str, str]) -> None:
    """Have each of these attributes of a class say that it does not exist and what to use."""
    for name, hint in hints.items():
        setattr(kind, name, Absent(name, hint))


def without_absent(kind: type, names: Iterable[str]) -> list[str]:
    """Return the names of the attributes that exist, for a class's `__dir__`."""
    return [name for name in names if not isinstance(getattr_static(kind, name, None), Absent)]


def no_attribute(
    module: str,
    name: str,
    hint: str | None,
    sentence: str = "module {0!r} has no attribute {1!r}",
) -> AttributeError | ImportError:
    """Return the error of a module that has no attribute of that name; for its `__getattr__`.

    For `from module import name`, to which Python would answer an `AttributeError` with a message
    of its own, it is an `ImportError`.
    """
    if hint and _is_imported_from(sys._getframe(2)):
        return ImportError(f"cannot import name {name!r} from {module!r}; {hint}", name=module)
    more = f"; {hint}" if hint else ""
    return AttributeError(sentence.format(module, name) + more, name=name)


def _is_imported_from(frame: FrameType) -> bool:
    """Whether the instruction that a frame executes is that of `from module import name`."""
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]
