"""A file that appears whole or not at all: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_DRAFT = ".draft-"


class Draft:
    """A file being written. `publish` gives it its name; without that it is gone when the block ends."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self._path = path

    def publish(self, path: Path) -> None:
        """Make the bytes durable and give them their name; whatever had it is replaced in one instant."""
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self._path, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def draft(folder: Path) -> Generator[Draft]:
    """A draft in `folder` (made when missing), which must be on the disk where it is published. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_DRAFT}{uuid.uuid4().hex}"
    try:
        with path.open("xb") as file:
            yield Draft(file, path)
    finally:
        path.unlink(missing_ok=True)


def clear_drafts(folder: Path) -> None:
    """Remove what a killed process left behind in `folder` and below. For a folder that nobody else writes into."""
    for path in folder.rglob(f"{_DRAFT}*"):
        path.unlink(missing_ok=True)
