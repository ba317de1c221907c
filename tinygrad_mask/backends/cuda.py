"""The device `cuda`: CuPy arrays, and the kernels of `kernels/cuda` compiled for the GPU at hand.

Nothing waits for the GPU but what hands a number to the host. Copies to it start from pinned memory
and run on a stream of their own. They wait for what was launched before them, and only what asks
for the array waits for them: a batch that is sent before the step on the last one is launched
arrives beside that step (`Backend.send`).
"""

import functools
import hashlib
import importlib
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from tinygrad_mask.backends.gpu.backend import GpuBackend
from tinygrad_mask.backends.interface import Array, DeviceError
from tinygrad_mask.backends.launcher import (
    OPTIONS,
    Dim3,
    Launcher,
    kernel_folder,
    kernel_headers,
    kernel_source,
)

LEAST_CAPABILITY = (7, 5)
_INSTALL = 'install it with pip install "tinygrad_mask[cuda13]" (or [cuda12])'
_SHARED_BYTES_WITHOUT_ASKING = 48 * 1024


class CupyLauncher(Launcher):
    """Launches kernels on CuPy's current device and stream, each compiled when it is first used.

    `cupy` is the module; it is handed in because importing it takes a second that only those
    should wait who want a GPU.
    """

    def __init__(self, cupy: Any) -> None:
        super().__init__()
        self.xp = cupy
        device = cupy.cuda.Device()
        self.device_id = device.id
        self.capability = divmod(int(device.compute_capability), 10)
        self._kernels: dict[tuple[str, str], Any] = {}
        self._copies = cupy.cuda.Stream(non_blocking=True)
        # Events, and what must be there until then: the pinned memory, and the array, whose memory
        # others would be given if nobody asked for it.
        self._in_flight: deque[tuple[Any, Any, Array]] = deque()
        self.recording = False  # a step, as a graph

    def asarray(self, host: Array) -> Array:
        return self.send(host)()

    def send(self, host: Array) -> Callable[[], Array]:
        """Begin to copy an array; see `Backend.send`."""
        self._refuse_recording()
        cuda = self.xp.cuda
        array = self.xp.empty(host.shape, host.dtype)
        if array.size == 0:
            return lambda: array
        while self._in_flight and self._in_flight[0][0].done:
            self._in_flight.popleft()
        memory = cuda.alloc_pinned_memory(array.nbytes)
        pinned = np.frombuffer(memory, host.dtype, host.size).reshape(host.shape)
        pinned[...] = host
        # The array's memory may have been another's, which kernels launched so far still use.
        compute = cuda.get_current_stream()
        self._copies.wait_event(compute.record(cuda.Event(disable_timing=True)))
        array.data.copy_from_host_async(memory.ptr, array.nbytes, self._copies)
        copied = self._copies.record(cuda.Event(disable_timing=True))
        self._in_flight.append((copied, memory, array))

        def arrived() -> Array:
            cuda.get_current_stream().wait_event(copied)
            return array

        return arrived

    def constant(self, key: Hashable, make: Callable[[], Array]) -> Array:
        self._refuse_recording()  # a graph would go on to use it when it is no longer remembered
        return super().constant(key, make)

    def _refuse_recording(self) -> None:
        if self.recording:
            raise RuntimeError(
                "capture: a step that copies from the host cannot be recorded, since it would copy "
                "the same again each time; hand it arrays of the device"
            )

    def address(self, array: Array) -> int:
        pointer: Any = array.data  # no memoryview, as NumPy's is
        return pointer.ptr

    def start(
        self,
        file: str,
        kernel: str,
        grid: Dim3,
        block: Dim3,
        arguments: Sequence[Any],
        shared_bytes: int,
        reachable: Sequence[Array],
    ) -> None:
        function = self._kernels.get((file, kernel))
        if function is None:
            function = self._kernels[file, kernel] = self._compile(file, kernel)
        if shared_bytes > _SHARED_BYTES_WITHOUT_ASKING:
            function.max_dynamic_shared_size_bytes = shared_bytes
        # CuPy passes arrays of NumPy's that have one element by value, but knows no np.void.
        values = tuple(np.asarray(a) if isinstance(a, np.void) else a for a in arguments)
        function(grid, block, values, shared_mem=shared_bytes)

    def _compile(self, file: str, kernel: str) -> Any:
        # CuPy finds what it has compiled before by source and options; it does not look into
        # headers, so that one that has changed must show in the options.
        headers = hashlib.sha256("".join(kernel_headers().values()).encode()).hexdigest()
        module = self.xp.RawModule(
            code=kernel_source(file),
            options=(*OPTIONS, f"-I{kernel_folder()}", f"-DHEADERS={headers}"),
            name_expressions=(kernel,),
        )
        return module.get_function(kernel)

    def _refusal(self, array: Any) -> Exception | None:
        error = super()._refusal(array)
        if error is None and array.device.id != self.device_id:
            return ValueError(
                f"expected an array on GPU {self.device_id}, got one on {array.device.id}"
            )
        return error


class CudaBackend(GpuBackend):
    """CuPy arrays; see `Backend.capture` for steps that are recorded as a CUDA graph."""

    asynchronous = True
    launcher: CupyLauncher

    def __init__(self, launcher: CupyLauncher) -> None:
        super().__init__("cuda", launcher)
        self._recording: _RecordedGraph | None = None  # while a step is being recorded

    def computing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def send(self, host: Array) -> Callable[[], Array]:
        return self.launcher.send(host)

    def to_host(self, array: Array) -> Array:
        return self.xp.asnumpy(array)

    def bernoulli(
        self, rng: np.random.Generator, p: float, shape: tuple[int, ...], dtype: Any
    ) -> Array:
        # Drawn on the host, so that a generator gives the same on every device.
        if self._recording is None:
            return super().bernoulli(rng, p, shape, dtype)
        return self._recording.refreshed(
            shape, dtype, functools.partial(self.bernoulli, rng, p, shape, dtype)
        )

    def capture(self, step: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
        return _Captured(self, step)

    def _record(self, step: Callable[..., tuple[Array, ...]], arrays: Sequence[Array]) -> Any:
        self._recording, self.launcher.recording = _RecordedGraph(self.xp, arrays), True
        try:
            self._recording.record(step)
            return self._recording
        finally:
            self._recording, self.launcher.recording = None, False


class _Captured:
    """A step that runs as it is the first time for arrays of some shapes, so that all kernels get
    compiled, and is recorded the second time.
    """

    def __init__(self, backend: CudaBackend, step: Callable[..., tuple[Array, ...]]) -> None:
        self.backend, self.step = backend, step
        self.recordings: dict[Any, _RecordedGraph | None] = {}

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        key = tuple((a.shape, a.dtype.str) for a in arrays)
        if key not in self.recordings:
            self.recordings[key] = None
            return self.step(*arrays)
        recording = self.recordings[key]
        if recording is None:
            recording = self.recordings[key] = self.backend._record(self.step, arrays)
        return recording.replay(arrays)


class _RecordedGraph:
    """A CUDA graph, and the memory that its kernels read and write at each replay.

    What is made during the recording comes from a pool of its own, out of which nobody else is
    given anything while the graph lives. What is filled before each replay must not lie in that
    pool: an earlier kernel of the graph may use the same memory for something that is gone by then.
    """

    def __init__(self, cupy: Any, arrays: Sequence[Array]) -> None:
        self.cupy = cupy
        self.pool = cupy.cuda.MemoryPool()
        self.allocator = cupy.cuda.get_allocator()
        self.inputs = [cupy.empty(a.shape, a.dtype) for a in arrays]
        self.refreshes: list[tuple[Array, Callable[[], Array]]] = []
        self.results: tuple[Array, ...] = ()
        self.graph: Any = None

    def refreshed(self, shape: tuple[int, ...], dtype: Any, draw: Callable[[], Array]) -> Array:
        """An array that is filled with a new draw before each replay."""
        with self.cupy.cuda.using_allocator(self.allocator):
            array = self.cupy.empty(shape, dtype)
        self.refreshes.append((array, draw))
        return array

    def record(self, step: Callable[..., tuple[Array, ...]]) -> None:
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with self.cupy.cuda.using_allocator(self.pool.malloc), stream:
            stream.begin_capture()
            try:
                self.results = step(*self.inputs)
            finally:
                self.graph = stream.end_capture()

    def replay(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        for own, array in zip(self.inputs, arrays, strict=True):
            own[...] = array
        for own, draw in self.refreshes:
            own[...] = draw()
        self.graph.launch()  # on the current stream
        return self.results


@functools.cache
def cuda_backend() -> CudaBackend:
    """Return the backend of the current GPU.

    Raises `DeviceError` that says what is missing: CuPy, a driver, a GPU, or a newer one.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(
            f"device 'cuda' is not available: it takes CuPy; {_INSTALL} ({error})"
        ) from error
    runtime = cupy.cuda.runtime
    if runtime.driverGetVersion() == 0:
        raise DeviceError("device 'cuda' is not available: there is no NVIDIA driver here")
    try:
        runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:  # no GPU, or a driver that is too old for this CuPy
        raise DeviceError(f"device 'cuda' is not available: {error}") from error
    launcher = CupyLauncher(cupy)
    if launcher.capability < LEAST_CAPABILITY:
        here, least = (".".join(map(str, c)) for c in (launcher.capability, LEAST_CAPABILITY))
        raise DeviceError(
            f"device 'cuda' is not available: the GPU here has compute capability {here}, the "
            f"kernels need {least} (Turing, 2018) or newer"
        )
    return CudaBackend(launcher)


@functools.cache
def cuda_is_available() -> bool:
    """Whether there is a GPU that `cuda_backend` would return."""
    try:
        cuda_backend()
    except DeviceError:
        return False
    return True
