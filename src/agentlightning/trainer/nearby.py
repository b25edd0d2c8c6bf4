"""A file that is not there: which one beside it was probably meant?"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path


def files_like(path: Path, suffixes: Sequence[str]) -> str:
    """A hint, one space before it: the file beside `path` that looks most like it, or those that are there."""
    if not path.parent.is_dir():
        return f" (The folder {str(path.parent)!r} does not exist either.)"
    beside = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in suffixes)
    if close := difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6):
        return f" Did you mean {str(path.parent / close[0])!r}?"
    return f" In that folder: {', '.join(beside[:8])}." if beside else ""
