"""A stand-in for CuPy: its arrays hold NumPy's, its kernels run on the emulator.

It is for tests of what talks to CuPy, where there is no GPU: as strict as CuPy is, so that whatever
mixes its arrays with NumPy's, hands them to a function of NumPy's or counts on an argument that
CuPy's functions do not have, fails as it would there. It has what this package uses and no more.

All happens at once, on the host; while a stream is being captured nothing is computed but what
tells shapes, and what a graph does is to do it all again.
"""

import contextlib
import ctypes
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tinygrad_mask.backends.emulator import ADDED_OPTIONS
from tinygrad_mask.emulator import Program

__version__ = "14.0.0"

_CUDA = 2  # DLPack's number for it


class CUDARuntimeError(RuntimeError):
    """What a call of the CUDA runtime failed with."""


# --- arrays --------------------------------------------------------------------------------------

_memory = weakref.WeakValueDictionary()  # what owns memory, by address


class ndarray:  # noqa: N801 (as CuPy calls it)
    """An array of the device."""

    def __init__(self, array, base=None):
        self._array = array
        self.base = base
        self.pool = _state.allocator
        if base is None and array.size:
            _memory[_address(array)] = self

    __array_ufunc__ = None

    def __array__(self, *arguments, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    def __array_function__(self, function, types, arguments, options):
        raise TypeError(f"numpy.{function.__name__} was called with an array of the device")

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    strides = property(lambda self: self._array.strides)
    T = property(lambda self: self.transpose())
    device = SimpleNamespace(id=0)

    @property
    def flags(self):
        own = self._array.flags
        return SimpleNamespace(c_contiguous=own.c_contiguous, f_contiguous=own.f_contiguous)

    @property
    def data(self):
        return MemoryPointer(self)

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index):
        return _compute(lambda a, i: a[i], self, index)

    def __setitem__(self, index, value):
        _write(lambda a, i, v: a.__setitem__(i, v), self, index, value)

    # Whatever brings a value to the host waits for the device.

    def get(self):
        _synchronize()
        return np.array(self._array, order="C")

    def item(self):
        return self.get().item()

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self._array.__dlpack__(max_version=max_version)

    def __dlpack_device__(self):
        return _CUDA, self.device.id

    def __bool__(self):
        return bool(self.item())

    def __int__(self):
        return int(self.item())

    def __float__(self):
        return float(self.item())

    # Signatures are CuPy's, which lack some arguments of NumPy's.

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return _compute(np.sum, self, axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return _compute(np.mean, self, axis=axis, dtype=dtype, keepdims=keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return _compute(np.max, self, axis=axis, keepdims=keepdims)

    def min(self, axis=None, out=None, keepdims=False):
        return _compute(np.min, self, axis=axis, keepdims=keepdims)

    def argmin(self, axis=None, out=None, dtype=None, keepdims=False):
        return _compute(np.argmin, self, axis=axis)

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return _compute(np.argmax, self, axis=axis)

    def any(self, axis=None, out=None, keepdims=False):
        return _compute(np.any, self, axis=axis)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self.dtype == dtype:
            return self
        return _compute(lambda a: a.astype(dtype), self)

    def copy(self, order="C"):
        return _compute(lambda a: a.copy(order), self)

    def reshape(self, *shape, order="C"):
        return _compute(lambda a: a.reshape(*shape), self)

    def transpose(self, *axes):
        return _compute(lambda a: a.transpose(*axes), self)

    def swapaxes(self, a, b):
        return _compute(lambda x: x.swapaxes(a, b), self)

    def ravel(self, order="C"):
        return _compute(lambda a: a.ravel(order), self)


def _operator(name):
    def binary(self, *others):
        return _compute(lambda a, *b: getattr(a, name)(*b), self, *others)

    return binary


def _in_place(name):
    def binary(self, other):
        _write(lambda a, b: getattr(a, name)(b), self, other)
        return self

    return binary


for _name in ["add", "sub", "mul", "truediv", "pow", "and", "or"]:
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(ndarray, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ["neg", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"]:
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
ndarray.__hash__ = object.__hash__


def _address(array):
    return array.__array_interface__["data"][0]


def _plain(value):
    """What NumPy gets for an argument; arrays of the host are refused."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(_plain(v) for v in value)
    return value


def _compute(function, *arguments, **options):
    """Call a function of NumPy's; what it returns is an array of the device, or several."""
    plain = [_plain(a) for a in arguments]
    owners = [a for a in arguments if isinstance(a, ndarray)]

    def call():
        with np.errstate(all="ignore"):
            return function(*plain, **options)

    def wrapped(result, again):
        array = np.asarray(result)
        for owner in owners:
            if np.may_share_memory(array, owner._array):
                return ndarray(array, owner if owner.base is None else owner.base)
        if _state.graph is not None:
            _state.graph.append(lambda: np.copyto(array, again()))
        return ndarray(array)

    result = call()
    if isinstance(result, list | tuple):
        return [wrapped(r, lambda k=k: call()[k]) for k, r in enumerate(result)]
    return wrapped(result, call)


def _write(function, *arguments):
    plain = [_plain(a) for a in arguments]

    def call():
        with np.errstate(all="ignore"):
            function(*plain)

    _do(call)


def _do(action):
    """Do something now, or each time the graph that is being captured is launched."""
    if _state.graph is None:
        action()
    else:
        _state.graph.append(action)


def _synchronize():
    if _state.graph is not None:
        raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")


# --- functions -----------------------------------------------------------------------------------


def empty(shape, dtype=float):
    array = np.empty(shape, dtype)
    array.view(np.uint8 if array.ndim else array.dtype)[...] = 0xAB  # nobody may count on zeros
    return ndarray(array)


def full(shape, fill_value, dtype=None):
    return _compute(lambda: np.full(shape, fill_value, dtype))


def zeros(shape, dtype=float):
    return full(shape, 0, dtype)


def ones(shape, dtype=float):
    return full(shape, 1, dtype)


def zeros_like(array):
    return zeros(array.shape, array.dtype)


def arange(*arguments, dtype=None):
    return _compute(lambda: np.arange(*arguments, dtype=dtype))


def asarray(array, dtype=None):
    if isinstance(array, ndarray):
        return array if dtype in (None, array.dtype) else array.astype(dtype)
    if np.ndim(array):
        raise TypeError("only numbers get to the device this way: arrays by Backend.asarray")
    return full((), array, dtype)


def from_dlpack(array):
    kind, _ = array.__dlpack_device__()
    if kind != _CUDA:
        raise TypeError("CuPy takes no memory of the host")
    return ndarray(np.from_dlpack(_Exported(array)))


class _Exported:
    """An array whose memory NumPy is to take for the host's."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(max_version=options.get("max_version"))

    def __dlpack_device__(self):
        return 1, 0


def ascontiguousarray(array):
    return array if array.flags.c_contiguous else array.copy()


def asnumpy(array):
    return array.get()


def _function(function):
    return lambda *arguments, **options: _compute(function, *arguments, **options)


abs = _function(np.abs)
argsort = _function(np.argsort)
broadcast_to = _function(np.broadcast_to)
clip = _function(np.clip)
concatenate = _function(np.concatenate)
copysign = _function(np.copysign)
cumsum = _function(np.cumsum)
exp = _function(np.exp)
expm1 = _function(np.expm1)
floor_divide = _function(np.floor_divide)
isinf = _function(np.isinf)
log = _function(np.log)
log1p = _function(np.log1p)
matmul = _function(np.matmul)
minimum = _function(np.minimum)
moveaxis = _function(np.moveaxis)
ones_like = _function(np.ones_like)
remainder = _function(np.remainder)
round = _function(np.round)
sign = _function(np.sign)
split = _function(np.split)
sqrt = _function(np.sqrt)
stack = _function(np.stack)
where = _function(np.where)


def maximum(x, y, out=None):
    if out is None:
        return _compute(np.maximum, x, y)
    _write(lambda a, b, to: np.maximum(a, b, out=to), x, y, out)
    return out


def argmax(x, axis=None):
    return x.argmax(axis)


def _as_strided(x, shape, strides):
    return _compute(lambda a: np.lib.stride_tricks.as_strided(a, shape, strides), x)


lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=_as_strided))


# --- kernels -------------------------------------------------------------------------------------


class RawModule:
    """CUDA source, of which kernels are compiled when they are asked for."""

    def __init__(self, *, code, options=(), name_expressions=None):
        [folder] = [Path(option[2:]) for option in options if option.startswith("-I")]
        names = {path.read_text(): path.name for path in folder.iterdir()}
        # The name and the options are the emulator's, so that no kernel is compiled twice.
        self.program = Program(
            code,
            name=names[code],
            headers={
                name: text
                for text, name in sorted(names.items(), key=lambda i: i[1])
                if name.endswith(".cuh")
            },
            options=(*(o for o in options if o[:2] not in ("-I", "-D")), *ADDED_OPTIONS),
            name_expressions=name_expressions,
        )

    def get_function(self, name):
        return RawKernel(self.program.function(name))


class RawKernel:
    """A kernel, called with grid, block and arguments."""

    def __init__(self, function):
        self.function = function
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid, block, arguments, *, shared_mem=0):
        assert isinstance(grid, tuple)
        assert isinstance(block, tuple)
        assert isinstance(arguments, tuple)
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        plain = [_argument(a) for a in arguments]
        # What a kernel may reach through addresses in memory.
        numbers = {n for a in plain if getattr(a, "dtype", None) == np.int64 for n in a.ravel()}
        reachable = [m._array for address, m in _memory.items() if address in numbers]
        _do(
            lambda: self.function.launch(
                grid, block, plain, shared_bytes=shared_mem, reachable=reachable
            )
        )


def _argument(value):
    if isinstance(value, ndarray):
        return value._array.reshape(value.shape or 1)
    if isinstance(value, np.ndarray) and value.size != 1:
        raise TypeError("You are trying to pass a numpy.ndarray as a kernel argument")
    if isinstance(value, np.void) or not isinstance(value, np.ndarray | np.generic | None):
        raise TypeError(f"Unsupported type {type(value)}")
    return value


# --- cupy.cuda -----------------------------------------------------------------------------------


class MemoryPointer:
    """Where an array begins."""

    def __init__(self, array):
        self.array = array
        self.ptr = _address(array._array)

    def copy_from_host_async(self, mem, size, stream):
        assert size == self.array.nbytes
        assert any(mem == ctypes.addressof(m) for m in _pinned), "this memory is not pinned"
        _state.log.append(("copy", stream))
        ctypes.memmove(self.ptr, mem, size)


_pinned = weakref.WeakSet()


def _alloc_pinned_memory(size):
    class PinnedMemoryPointer(ctypes.c_char * size):
        ptr = property(ctypes.addressof)
        __hash__ = object.__hash__

    memory = PinnedMemoryPointer()
    _pinned.add(memory)
    return memory


class Event:
    """A point in a stream."""

    done = True

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        pass


class Stream:
    """What is done in order; the current one is a context's."""

    def __init__(self, null=False, non_blocking=False):
        self.null = null

    def __enter__(self):
        _state.streams.append(self)
        return self

    def __exit__(self, *exception):
        _state.streams.pop()

    def record(self, event=None):
        event = event or Event()
        _state.log.append(("record", self, event))
        return event

    def wait_event(self, event):
        _state.log.append(("wait", self, event))

    def begin_capture(self):
        if self.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        _state.graph = []

    def end_capture(self):
        graph, _state.graph = _state.graph, None
        return Graph(graph)


class Graph:
    """What was captured."""

    def __init__(self, actions):
        self.actions = actions

    def launch(self, stream=None):
        for action in self.actions:
            action()


class MemoryPool:
    """Where memory comes from."""

    def malloc(self, size):
        raise NotImplementedError


@contextlib.contextmanager
def _using_allocator(allocator):
    before, _state.allocator = _state.allocator, allocator
    yield
    _state.allocator = before


_state = SimpleNamespace(
    streams=[Stream(null=True)], graph=None, log=[], allocator=MemoryPool().malloc
)

runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    driverGetVersion=lambda: 13000,
    getDeviceCount=lambda: 1,
)

cuda = SimpleNamespace(
    Device=lambda: SimpleNamespace(id=0, compute_capability="90"),
    Event=Event,
    MemoryPool=MemoryPool,
    Stream=Stream,
    alloc_pinned_memory=_alloc_pinned_memory,
    get_allocator=lambda: _state.allocator,
    get_current_stream=lambda: _state.streams[-1],
    runtime=runtime,
    using_allocator=_using_allocator,
)
