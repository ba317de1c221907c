"""The structures of runtime/abi.h, for ctypes."""

from ctypes import POINTER, Structure, c_char, c_int32, c_int64, c_uint32, c_uint64, c_void_p

MODES = {"fast": 0, "check": 1, "count": 2}
ORDERS = {"forward": 0, "reverse": 1, "random": 2}
SPACES = ("global", "shared", "local", "constant", "generic", "parameter")

_Three = c_uint32 * 3


class CBuffer(Structure):
    """`Buffer`."""

    _fields_ = (
        ("address", c_void_p),
        ("bytes", c_uint64),
        ("granule", c_uint32),
        ("read_only", c_uint32),
        ("stays", c_uint32),
        ("misalignment", c_uint32),
        ("unwritten", c_void_p),
    )


class CPointer(Structure):
    """`Pointer`."""

    _fields_ = (("offset", c_uint32), ("buffer", c_uint32))


class CExtent(Structure):
    """`Extent`."""

    _fields_ = (("offset", c_uint32), ("bytes", c_uint32))


class CLaunch(Structure):
    """`Launch`."""

    _fields_ = (
        ("entry", c_void_p),
        ("parameters", c_void_p),
        ("parameter_bytes", c_uint64),
        ("pointers", c_void_p),
        ("buffers", c_void_p),
        ("shared", c_void_p),
        ("parameter_extents", c_void_p),
        ("counters", c_void_p),
        ("memory", c_void_p),
        ("sectors", c_void_p),
        ("parameter_count", c_uint32),
        ("pointer_count", c_uint32),
        ("buffer_count", c_uint32),
        ("variable_count", c_uint32),
        ("shared_count", c_uint32),
        ("counter_count", c_uint32),
        ("site_count", c_uint32),
        ("grid", _Three),
        ("block", _Three),
        ("arena_bytes", c_uint32),
        ("dynamic_bytes", c_uint32),
        ("stack_bytes", c_uint32),
        ("mode", c_uint32),
        ("order", c_uint32),
        ("seed", c_uint32),
        ("workers", c_uint32),
        ("suspends", c_uint32),
        ("partial", c_uint32),
        ("flush", c_uint32),
        ("warp_accesses", c_uint32),
        ("interruptible", c_uint32),
    )


class CFinding(Structure):
    """`Finding`."""

    _fields_ = (
        ("kind", c_uint32),
        ("site", c_uint32),
        ("block", _Three),
        ("thread", _Three),
        ("space", c_uint32),
        ("access", c_uint32),
        ("bytes", c_uint32),
        ("object", c_int32),
        ("offset", c_int64),
        ("has_other", c_uint32),
        ("other_site", c_uint32),
        ("other_access", c_uint32),
        ("other_block", _Three),
        ("other_thread", _Three),
        ("threads", c_uint32),
        ("waiting", c_uint32),
        ("elsewhere", c_uint32),
        ("in_warp", c_uint32),
        ("exited", c_uint32),
        ("mask", c_uint32),
        ("other_mask", c_uint32),
        ("lane", c_uint32),
        ("text", c_char * 256),
    )


class CResult(Structure):
    """`Result`."""

    _fields_ = (
        ("findings", POINTER(CFinding)),
        ("limit", c_uint32),
        ("count", c_uint32),
        ("printed", c_void_p),
        ("printed_bytes", c_uint64),
    )
