"""Archives made for tests: a folder in every form, and members of any name, kind and link."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from headwater.extract.archives import ArchiveSource
from headwater.extract.folder import FolderSource
from headwater.extract.rows import ReadError

TAXA = (
    "00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
    "00001_Plantae_Tracheophyta_Liliopsida_Poales_Poaceae_Zea_mays_var_alba",
)


def draw_tree(root: Path) -> Path:
    """A folder with all that its source tells apart; the bytes are no pictures, which is not looked at."""
    draw = random.Random(4)
    names = [
        *(f"train/{taxon}/{number:03d}.jpg" for taxon in TAXA for number in (10, 9, 1)),
        f"train/{TAXA[0]}/ünï code & spaces.PNG",
        f"train/{TAXA[1]}/{'long' * 40}.webp",
        f"train/{TAXA[1]}/empty.gif",
        "train/.hidden/a.jpg",
        "train/.hidden/b.jpg",
        f"__MACOSX/train/{TAXA[0]}/._001.jpg",
        f"train/{TAXA[0]}/.also.jpg",
        "README.txt",
        "train/noending",
    ]
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"" if "empty" in name else draw.randbytes(draw.randrange(1, 3000)))
    (root / "train" / TAXA[0] / "folder.jpg").mkdir()
    (root / "train" / TAXA[0] / "folder.jpg/inside.txt").write_bytes(b"inside")
    return root


def pack_tar(root: Path, to: io.BytesIO, *, shuffled: bool = False, **options: object) -> None:
    with tarfile.open(fileobj=to, mode="w", **options) as tar:  # type: ignore[call-overload]
        paths = sorted(root.rglob("*"))
        random.Random(2).shuffle(paths) if shuffled else None
        for path in paths:
            tar.add(path, path.relative_to(root), recursive=False)


def pack_zip(root: Path, to: io.BytesIO, method: int) -> None:
    with zipfile.ZipFile(to, "w", method) as archive:
        for path in sorted(root.rglob("*"), reverse=True):
            if method == zipfile.ZIP_DEFLATED or path.is_file():
                archive.write(path, path.relative_to(root))


def packed(tar: bytes, kind: str) -> bytes:
    """A tar in another compression."""
    if kind == "zst":
        made: bytes = pa.Codec("zstd").compress(tar, asbytes=True)
        return made
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "": bytes}[kind](tar)


def tar_of(root: Path, **options: object) -> bytes:
    buffer = io.BytesIO()
    pack_tar(root, buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def zip_of(root: Path, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    pack_zip(root, buffer, method)
    return buffer.getvalue()


FORMS: dict[str, Callable[[Path], bytes]] = {
    "a.tar": tar_of,
    "ustar.TAR": lambda root: tar_of(root, format=tarfile.GNU_FORMAT),
    "a.tar.gz": lambda root: packed(tar_of(root), "gz"),
    "shuffled.tgz": lambda root: packed(tar_of(root, shuffled=True), "gz"),
    "parts.tar.gz": lambda root: b"".join(
        packed(tar_of(root)[start : start + 9000], "gz") for start in range(0, len(tar_of(root)), 9000)
    ),
    "a.tar.bz2": lambda root: packed(tar_of(root, shuffled=True), "bz2"),
    "a.tar.xz": lambda root: packed(tar_of(root), "xz"),
    "a.tar.zst": lambda root: packed(tar_of(root, shuffled=True), "zst"),
    "wrong name.tar": lambda root: packed(tar_of(root), "gz"),
    "a.zip": zip_of,
    "stored.zip": lambda root: zip_of(root, zipfile.ZIP_STORED),
}


def contents(source: FolderSource | ArchiveSource) -> dict[str, bytes | str]:
    def content(row: int) -> bytes | str:
        try:
            return source.load(row)
        except ReadError as error:
            return error.reason

    return {key: content(row) for row, key in enumerate(source.keys)}


def tar_with(*members: tuple[str, bytes, str]) -> bytes:
    """A tar of (name, type, target); files hold their name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            content = name.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_with(*members: tuple[str, str]) -> bytes:
    """A zip of (name, target); without a target it is a file that holds its name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, target in members:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = ((stat.S_IFLNK if target else stat.S_IFREG) | 0o644) << 16
            archive.writestr(info, target or name)
    return buffer.getvalue()


FILE, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
