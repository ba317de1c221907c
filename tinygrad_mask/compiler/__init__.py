"""Compile a model for evaluation: its network as one program of kernel calls.

A model is traced (`trace.py`), neighbouring operations are merged (`fusion.py`), and the values
between them get their places in one block of memory (`memory.py`). `program.py` turns the result
into a `Program` of `kernels/cpu`, and `compiled.py` is what the user calls.
"""

from tinygrad_mask.compiler.compiled import CompiledModel, compile

__all__ = ["CompiledModel", "compile"]
