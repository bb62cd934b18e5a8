"""The members of a tar in the order in which they lie there, from any file object that is read forwards."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from headwater.errors import RequestError
from headwater.members import Member, tar_member

DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError)
"""What reading a damaged archive raises."""


def list_tar(stream: Any, shown: str) -> Iterator[Member]:
    """Every member; a file's place is the offset of its content within the tar.

    The stream is moved on only when the next member is asked for, so that content can be read in between.

    Raises:
        RequestError: it is no tar, it is damaged, or it ends in the middle.
    """
    try:
        tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - nothing to close
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
            if info.size < 0:
                raise EOFError(f"a member says that it has {info.size:,} bytes")
            yield tar_member(info)
        # tarfile takes a header that makes no sense for the end
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise EOFError(f"no header of a member at byte {tar.offset:,}")
    except DAMAGED as error:
        raise damaged(shown, error) from error


def damaged(shown: str, error: BaseException) -> RequestError:
    """The refusal of an archive that cannot be read to its end."""
    said = " ".join(str(error).split())[:120] or type(error).__name__
    return RequestError(f"the archive {shown} is damaged or incomplete ({said}); get it once more")
