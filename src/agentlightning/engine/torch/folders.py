"""A folder or file that is written appears whole or not at all.

It is written beside its place under a draft's name and renamed when it is on the disk. A folder cannot be exchanged in
one move everywhere, so the old one steps aside for a moment; if we are killed just then, `settle` puts it back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(place: Path) -> Generator[Path]:
    """A draft folder to write into; it takes the place when the block ends well, else nothing has changed."""
    settle(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.draft-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        _put_on_disk(draft)
        _exchange(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def whole_file(place: Path) -> Generator[Path]:
    """The same for one file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.draft-{os.getpid()}")
    try:
        yield draft
        _sync(draft)
        draft.replace(place)
        _sync(place.parent)
    finally:
        draft.unlink(missing_ok=True)


def settle(place: Path) -> None:
    """Put back the last good folder, if a process was killed while it exchanged it. Call before reading."""
    aside = _aside(place)
    if aside.is_dir() and not place.exists():
        aside.rename(place)
    elif aside.is_dir():
        shutil.rmtree(aside)


def _exchange(draft: Path, place: Path) -> None:
    if place.exists():
        place.rename(_aside(place))
    draft.rename(place)
    _sync(place.parent)
    shutil.rmtree(_aside(place), ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.before")


def _put_on_disk(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
