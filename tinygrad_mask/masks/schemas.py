"""JSON that is read from files, checked against the classes that it stands for.

A class is a dataclass with annotated fields, or any other type that msgspec knows. What has other
types, other names or lacks some is refused; bounds are checked by the class itself, when it is made
(`__post_init__`).
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_LARGEST = 64 << 20  # bytes: the split of a million photographs has less


def decode_json(text: str | bytes, schema: type[T]) -> T:
    """Return what JSON text holds, as a `schema`.

    Raises `ValueError`, in one line that says where, if it is no JSON or something else.
    """
    if len(text) > _LARGEST:
        raise ValueError(f"expected at most {_LARGEST >> 20} MiB of JSON, got {len(text):,} bytes")
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("expected JSON, got one that is nested too deeply") from None
    return convert(content, schema)


def convert(content: Any, schema: type[T]) -> T:
    """Return the content of JSON as a `schema`; raises `ValueError` as `decode`."""
    if dataclasses.is_dataclass(schema) and isinstance(content, Mapping):
        others = sorted(set(content) - {field.name for field in dataclasses.fields(schema)})
        if others:
            raise ValueError(f"expected no {others[0]!r:.60}")
    try:
        return msgspec.convert(content, schema)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from None
