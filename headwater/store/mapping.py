"""A read-only memory map of a whole file that holds no file descriptor.

Python's own `mmap` keeps a descriptor open per map (until 3.13), and a store of a thousand shards would run
into the usual limit of 1,024 open files; so the system call is made here directly.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.store.files import explained_reading

_FAILED = ctypes.c_void_p(-1).value


@cache
def _system() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library


def map_file(path: Path) -> memoryview:
    """The file's bytes as a read-only view; unmapped when the last array over it is gone.

    HeadwaterError when the file cannot be opened or mapped.
    """
    with explained_reading(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size == 0:
                return memoryview(b"")
            address = _system().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
            if address == _FAILED:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(descriptor)
    content = (ctypes.c_ubyte * size).from_address(address)
    # Not at exit: threads may still be reading then, and the system unmaps everything anyway.
    weakref.finalize(content, _system().munmap, address, size).atexit = False
    return memoryview(content).cast("B").toreadonly()


def array_at(content: memoryview, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array that lies at `offset` bytes of a mapped file, without copying."""
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype, count, offset).reshape(shape)


def address_of(array: NDArray[Any]) -> int:
    """Where an array's first number stands in memory."""
    return int(array.__array_interface__["data"][0])


def rows_at(addresses: NDArray[np.int64], step: int, dim: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A fresh (rows, dim) array of the rows at these addresses of live mappings, whole steps apart.

    The mappings are looked at as one window of memory, so that numpy copies the rows of a hundred files
    exactly as it copies those of one; what lies between the files is never touched.
    """
    low, high = int(addresses.min()), int(addresses.max())
    span = high - low + dim * dtype.itemsize
    memory = memoryview((ctypes.c_ubyte * span).from_address(low)).cast("B").toreadonly()
    window = np.frombuffer(memory, dtype, count=dim)
    rows = np.lib.stride_tricks.as_strided(window, ((high - low) // step + 1, dim), (step, dtype.itemsize))
    gathered: NDArray[Any] = rows[(addresses - low) // step]
    return gathered
