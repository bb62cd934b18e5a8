"""Fetches one file from the Hugging Face hub, or a server of its kind, into the hub library's own cache.

`hf://owner/repository/file` names a file of a model repository, `hf://datasets/owner/repository/file` one of
a data set; `repository@revision` another than the newest. Names, tokens and the cache are the library's
business. The download is done here, because the library's own starts from nothing after every stop and does
not compare checksums.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from headwater.errors import HeadwaterError, HeadwaterWarning, RequestError
from headwater.extract.quiet import quiet

SCHEME = "hf://"

_DATASETS = "datasets"
_ATTEMPTS = 2  # without a byte arriving; each is several of the library's own
_PIECE = 1 << 20
_ETAG = re.compile(r"[0-9a-f]{1,128}")  # files in the cache are called so
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository; `revision` None is the newest."""

    repository: str
    path: str
    is_dataset: bool = False
    revision: str | None = None

    @property
    def repository_type(self) -> str:
        """The hub's word for what kind of repository it is."""
        return "dataset" if self.is_dataset else "model"


def parse(text: str) -> HubFile:
    """What an address names; RequestError when it names no file."""
    parts = text.removeprefix(SCHEME).split("/")
    is_dataset = parts[0] == _DATASETS
    parts = parts[1:] if is_dataset else parts
    if len(parts) < 3 or not all(parts) or ".." in parts:
        kind = f"{_DATASETS}/" if is_dataset else ""
        raise RequestError(f"{text!r} names no file on the hub; write {SCHEME}{kind}owner/repository/file")
    name, _, revision = parts[1].partition("@")
    return HubFile(f"{parts[0]}/{name}", "/".join(parts[2:]), is_dataset, revision or None)


def fetch(text: str) -> Path:
    """The path of the file that an `hf://` address names, fetched if it is not in the cache yet.

    A download that was cut off goes on where it was; a file whose checksum is not the hub's is thrown away.
    Where the hub cannot be reached, a copy that was fetched before is taken, at once. HeadwaterWarning where
    that may be an older one, and where the hub states no checksum. `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_TOKEN`
    and `HF_HUB_OFFLINE` mean what they mean to the hub's library.

    Raises:
        RequestError: the address names nothing on the hub, or nothing that may be seen.
        HeadwaterError: the hub cannot be reached and there is no copy, or the download fails.
    """
    file = parse(text)
    try:
        import huggingface_hub as hub  # noqa: PLC0415
        from huggingface_hub import constants, errors, file_download, utils  # noqa: F401, PLC0415 - now hub's
    except ModuleNotFoundError as error:
        raise RequestError(f"{text!r} needs an extra: pip install 'headwater[hub]'") from error
    # The library's HTTP client has changed with its versions; its own error has the client's as a base.
    failures: tuple[type[Exception], ...] = (OSError, errors.HfHubHTTPError.__bases__[0])
    told: tuple[type[Exception], ...] = (ValueError, *failures)  # the library refuses names so
    request = _Request(text, file, hub, failures)
    with quiet("huggingface_hub"):  # which warns of every attempt, while the last one's error says all
        try:
            return request.fetch()
        except (
            errors.RepositoryNotFoundError,
            errors.EntryNotFoundError,
            errors.RevisionNotFoundError,
        ) as error:
            raise RequestError(_not_there(text, file, error, errors)) from error
        except told as error:
            raise HeadwaterError(
                f"{text!r} cannot be fetched from the hub ({_reason(error)}); check the name and the"
                " connection, or download the file elsewhere and give its path"
            ) from error


class _Request:
    """One file asked for: what the hub says of it, the copy in the cache, and the way there."""

    def __init__(self, text: str, file: HubFile, hub: Any, failures: tuple[type[Exception], ...]) -> None:
        self._text, self._file, self._hub, self._failures = text, file, hub, failures
        self._cache = Path(hub.constants.HF_HUB_CACHE)
        # Read when it is asked for: the library reads it once, when it is imported.
        self._endpoint = (os.environ.get("HF_ENDPOINT") or hub.constants.ENDPOINT).rstrip("/")

    def fetch(self) -> Path:
        errors = self._hub.errors
        try:
            known = self._hub.get_hf_file_metadata(self._url(self._file.revision))
        except self._failures as error:
            gone = (errors.RepositoryNotFoundError, errors.EntryNotFoundError, errors.RevisionNotFoundError)
            if isinstance(error, gone) or (copy := self._copy()) is None:
                raise
            self._say_that_it_may_be_old(error)
            return copy
        if known.commit_hash is None or known.etag is None or not _ETAG.fullmatch(known.etag):
            raise HeadwaterError(
                f"{self._endpoint} does not answer as a hub when asked for {self._text!r}; check HF_ENDPOINT"
                " and the connection, or download the file elsewhere and give its path"
            )
        most = getattr(self._hub.constants, "MAX_HTTP_DOWNLOAD_SIZE", None)  # above it, Xet alone serves
        if known.size is None or most is None or known.size <= most:
            self._download(known)
        return self._from_library()

    def _url(self, revision: str | None) -> str:
        url: str = self._hub.hf_hub_url(
            self._file.repository,
            self._file.path,
            repo_type=self._file.repository_type,
            revision=revision,
            endpoint=self._endpoint,
        )
        return url

    def _copy(self) -> Path | None:
        """The file as it was last fetched, if it ever was."""
        found = self._hub.try_to_load_from_cache(
            self._file.repository,
            self._file.path,
            cache_dir=self._cache,
            revision=self._file.revision,
            repo_type=self._file.repository_type,
        )
        return Path(found) if isinstance(found, str) else None

    def _say_that_it_may_be_old(self, error: Exception) -> None:
        offline = self._hub.constants.HF_HUB_OFFLINE  # its user knows
        if not offline and not _COMMIT.fullmatch(self._file.revision or ""):
            warnings.warn(
                f"the hub cannot be reached ({_reason(error)}), so {self._text!r} is the copy fetched before,"
                " and the hub may have a newer one",
                HeadwaterWarning,
                stacklevel=2,
            )

    def _from_library(self) -> Path:
        """The path that the library gives, which makes its links to what `_download` has put there."""
        return Path(
            self._hub.hf_hub_download(
                self._file.repository,
                self._file.path,
                repo_type=self._file.repository_type,
                revision=self._file.revision,
                cache_dir=self._cache,
                endpoint=self._endpoint,
            )
        )

    def _download(self, known: Any) -> None:
        """Put the content where the library's cache keeps it, unless it is there."""
        name = self._hub.file_download.repo_folder_name(
            repo_id=self._file.repository, repo_type=self._file.repository_type
        )
        blob = self._cache / name / "blobs" / known.etag
        if blob.exists():
            return
        locks = self._cache / ".locks" / name
        for folder in (blob.parent, locks):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{known.etag}.headwater.lock"):
            if blob.exists():  # another process was faster
                return
            part = blob.with_name(f"{known.etag}.headwater.incomplete")
            self._check_room(part, known.size)
            self._go_on(part, known)
            self._check_sum(part, known.etag)
            part.replace(blob)

    def _check_room(self, part: Path, size: int | None) -> None:
        missing = (size or 0) - (part.stat().st_size if part.exists() else 0)
        free = shutil.disk_usage(part.parent).free
        if missing > free:
            raise HeadwaterError(
                f"{self._text!r} needs {missing:,} bytes more in {self._cache}, where {free:,} are free; make"
                " room or set HF_HUB_CACHE to a folder with more"
            )

    def _go_on(self, part: Path, known: Any) -> None:
        """Download what is missing of the file; HeadwaterError when no more comes."""

        without_progress = 0
        while True:
            had = part.stat().st_size if part.exists() else 0
            if known.size is not None and had > known.size:
                part.unlink()
                had = 0
            try:
                with part.open("ab") as file:
                    self._hub.file_download.http_get(
                        self._url(known.commit_hash),
                        file,
                        resume_size=had,
                        headers=self._hub.utils.build_hf_headers(),
                        expected_size=known.size,
                        displayed_filename=Path(self._file.path).name,
                    )
            except self._failures as error:
                have = part.stat().st_size
                without_progress = 0 if have > had else without_progress + 1
                if without_progress == _ATTEMPTS:
                    of = "" if known.size is None else f" of {known.size:,}"
                    raise HeadwaterError(
                        f"the download of {self._text!r} was cut off after {have:,}{of} bytes"
                        f" ({_reason(error)}); give the same command again, and it goes on from there"
                    ) from error
            else:
                return

    def _check_sum(self, part: Path, etag: str) -> None:
        """Compare with the etag, which is SHA-256 of large files and Git's SHA-1 of others."""
        lengths = {64: hashlib.sha256, 40: hashlib.sha1}
        if len(etag) not in lengths:
            warnings.warn(
                f"{self._endpoint} states no checksum of {self._text!r}, so whether it came unchanged is not"
                " known; compare it with what its owner says of it",
                HeadwaterWarning,
                stacklevel=2,
            )
            return
        made = lengths[len(etag)]()
        if len(etag) == 40:
            made.update(b"blob %d\0" % part.stat().st_size)
        with part.open("rb") as file:
            while piece := file.read(_PIECE):
                made.update(piece)
        if made.hexdigest() != etag:
            part.unlink()
            raise HeadwaterError(
                f"what was downloaded as {self._text!r} does not have the checksum that the hub states, and"
                " was thrown away; give the same command again"
            )


def _not_there(text: str, file: HubFile, error: Exception, errors: Any) -> str:
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{text!r} is given only to those who agree to its terms on the hub; agree there and log in with"
            " `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        asked = f"{text!r} names the revision {file.revision!r}"
        return f"{asked}, which {file.repository} does not have; leave it out for the newest"
    if isinstance(error, errors.RepositoryNotFoundError):
        other = "" if file.is_dataset else f"; a data set is named {SCHEME}{_DATASETS}/owner/repository/file"
        return (
            f"the hub shows no {file.repository_type} repository {file.repository}, named by {text!r}; check"
            f" the name, or log in with `hf auth login` if it is private{other}"
        )
    return f"{file.repository} on the hub has no file {file.path!r}, named by {text!r}; check the name"


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
