"""Archives of images as a source, read where they lie: which members are rows, and how their bytes are had.

- `names.py`: which members become rows.
- `tars.py`: the members of a tar, in any compression; `zips.py`: those of a zip.
- `inflating.py`: any part of a gzip file without unpacking it; `spool.py`: a temporary file where that cannot
  be done.
- `source.py`: puts them together.
"""

from headwater.extract.archives.source import ArchiveSource

__all__ = ["ArchiveSource"]
