"""Pickles as data: containers, numbers, text and arrays of numbers, and nothing that could run.

A pickle is a program: it may name any function and call it, and give any object a state. Here a name is looked up in a
short list, all of which make arrays or containers; those of arrays are functions of ours that take nothing but plain
dtypes, and a state is given to nothing but plain arrays and dtypes. Everything else is an `UnsafePickle` before it is
imported or done: a dtype whose state hid that it holds objects would make pointers of bytes.
"""

from __future__ import annotations

import codecs
import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError

__all__ = ["UnsafePickle", "read_pickle"]

_PLAIN_DTYPE = re.compile(r"[<>=|]?[biufSU]\d{0,9}")
"""Booleans, integers, floating point, bytes and text: one field, no objects."""
_PLAIN_STATE = (None, None, None)
"""A plain dtype has no array within, no names and no fields."""
_PLAIN_FLAGS = (0, 8)
"""Of numbers, and of text: none of the flags of dtypes that hold objects."""


class UnsafePickle(DataError):
    """A pickle names something that is not plain data."""


class _Marker:
    """Stands for `numpy.ndarray`, which arrays name as their class; it cannot be called."""


def _empty(kind: object, *_: object) -> NDArray[Any]:
    """What `numpy._reconstruct` makes: an array that its state fills afterwards."""
    if kind is not _Marker:
        raise UnsafePickle(f"an array of the class {kind!r}; allowed is numpy.ndarray")
    return np.ndarray((0,), np.uint8)


def _dtype(kind: object, *_: object) -> np.dtype[Any]:
    text = kind.decode() if isinstance(kind, bytes) else kind
    if not isinstance(text, str) or not _PLAIN_DTYPE.fullmatch(text):
        raise UnsafePickle(f"an array of dtype {kind!r}; allowed are numbers, booleans and text")
    # A copy: the state that follows in the pickle (its byte order) must not reach the dtype that everyone shares.
    return np.dtype(text, False, True)


def _from_buffer(content: object, kind: object, shape: object, order: object, *_: object) -> NDArray[Any]:
    """How protocol 5 holds arrays that lie in one piece."""
    if not isinstance(content, (bytes, bytearray)) or not isinstance(kind, np.dtype) or order not in ("C", "F"):
        raise UnsafePickle("an array that is not made of plain bytes and a plain dtype")
    if not isinstance(shape, tuple) or not all(type(size) is int for size in shape):
        raise UnsafePickle(f"an array of shape {shape!r}")
    return np.frombuffer(content, kind).reshape(shape, order="C" if order == "C" else "F")


def _scalar(kind: object, content: object = b"", *_: object) -> Any:
    if not isinstance(kind, np.dtype) or not isinstance(content, bytes) or len(content) != kind.itemsize:
        raise UnsafePickle("a scalar that is not made of a plain dtype and its bytes")
    return np.frombuffer(content, kind)[0]


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """How pickles that Python 2 can read hold bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"bytes encoded as {encoding!r}; allowed is latin1")
    return codecs.encode(text, "latin1")


def _bytearray(content: object = b"", *_: object) -> bytearray:
    """How protocol 5 holds what can be changed; a number, which would only take memory, is refused."""
    if not isinstance(content, (bytes, bytearray)):
        raise UnsafePickle(f"a bytearray of {type(content).__name__}; allowed are bytes")
    return bytearray(content)


def _no_bytes() -> bytes:
    """How pickles that Python 2 can read hold no bytes at all; it takes no arguments, as `bytes` would."""
    return b""


_ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Marker,
    ("numpy", "dtype"): _dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    ("_codecs", "encode"): _encode,
    **{(home, "bytes"): _no_bytes for home in ("builtins", "__builtin__")},
    ("collections", "OrderedDict"): OrderedDict,
    **{(home, kind.__name__): kind for home in ("builtins", "__builtin__") for kind in (set, frozenset)},
    **{(home, "bytearray"): _bytearray for home in ("builtins", "__builtin__")},
}


_build_object: Callable[[Any], None] = pickle._Unpickler.dispatch[pickle.BUILD[0]]


# The one in Python: that in C gives no say in which objects are given a state.
class _DataReader(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**pickle._Unpickler.dispatch}
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise UnsafePickle(
                f"it names {module}.{name}; allowed are containers, numbers, text and NumPy arrays of them",
                hint="Whoever made it can write the same values as .npz; a pickle from a stranger is never to be run.",
            ) from None

    def persistent_load(self, _: object) -> Any:
        raise UnsafePickle("it refers to objects outside of itself")

    def _build(self) -> None:
        *_, made, state = self.stack
        if isinstance(made, np.dtype):
            plain = isinstance(state, tuple) and len(state) == 8
            plain = plain and state[2:5] == _PLAIN_STATE and state[7] in _PLAIN_FLAGS
        else:
            plain = isinstance(made, np.ndarray) and isinstance(state, tuple) and isinstance(state[-1], bytes)
        if not plain:
            raise UnsafePickle(f"it gives a {type(made).__name__} a state that is not plain data")
        _build_object(self)

    dispatch[pickle.BUILD[0]] = _build


def read_pickle(path: Path) -> Any:
    """The data of a pickle.

    Raises:
        UnsafePickle: It names anything but containers, numbers, text and arrays.
        DataError: It is not there or not readable.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}", hint="Check the path.") from error
    try:
        return _DataReader(io.BytesIO(content)).load()
    except UnsafePickle as error:
        raise UnsafePickle(f"{path.name}: {error.message}", hint=error.hint) from error
    except (
        *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError),
        *(AttributeError, OverflowError, MemoryError, RuntimeError, SystemError),
    ) as error:
        raise DataError(f"{path.name} is not a readable pickle: {type(error).__name__}: {error}") from error
