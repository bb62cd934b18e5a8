"""Reads one file of a source without ever hanging on what is no regular file; says in words why it could not.

Which files there are is folder.py's and manifest.py's business.
"""

from __future__ import annotations

import errno
import os
import stat

from headwater.extract.rows import ReadError

LARGEST_FILE = 1 << 30
"""Bytes; no picture within MAX_PIXELS is larger, and a larger file is not read into memory to find out."""

_REASONS = {
    errno.ENOENT: "no such file (vanished since it was listed, or a broken link)",
    errno.ENOTDIR: "no such file (a part of its path is no folder)",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ELOOP: "a symbolic link that leads back to itself",
    errno.ENXIO: "not a regular file (a socket or a device)",
    errno.EISDIR: "a folder, not a file",
}
_KINDS = {
    stat.S_IFDIR: "a folder, not a file",
    stat.S_IFIFO: "not a regular file (a named pipe)",
    stat.S_IFSOCK: "not a regular file (a socket)",
    stat.S_IFCHR: "not a regular file (a device)",
    stat.S_IFBLK: "not a regular file (a device)",
}


def read_file(path: bytes) -> bytes:
    """The whole content of a regular file.

    Raises:
        ReadError: it is not there, may not be read, is no regular file, or is larger than LARGEST_FILE.
    """
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for someone to write into it
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise ReadError(_KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file"))
            if status.st_size > LARGEST_FILE:
                raise ReadError(
                    f"the file has {status.st_size:,} bytes, more than any picture ({LARGEST_FILE:,})"
                )
            return _read_all(file, status.st_size)
        finally:
            os.close(file)
    except ValueError as error:  # a NUL within the path
        raise ReadError("no such file (its path holds a NUL character)") from error
    except OSError as error:
        raise ReadError(_REASONS.get(error.errno or 0, error.strerror or type(error).__name__)) from error


def _read_all(file: int, size: int) -> bytes:
    content = os.read(file, size + 1)  # one more: at its end a file says so with a short read
    if len(content) == size:
        return content
    parts = [content]
    total = len(content)
    while part := os.read(file, 1 << 20):
        parts.append(part)
        total += len(part)
        if total > LARGEST_FILE:
            raise ReadError(f"the file grew beyond {LARGEST_FILE:,} bytes while it was read")
    return b"".join(parts)
