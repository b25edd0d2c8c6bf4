"""Tables for a terminal, in which an id is never cut: somebody will copy it into the next command."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Column

_FILE_COLUMNS = 240
"""Of what is not read on a terminal, so that a row stays on one line for `grep`."""


def ID(header: str) -> Column:
    """A column of ids: on one line if there is room for it, else on several."""
    return Column(header, overflow="fold")


def console() -> Console:
    """Where tables are printed: as wide as the terminal (or COLUMNS), and wide in a pipe or a file.

    What they hold is printed as it is: errors, prompts and names of extras have square brackets of their own.
    """
    is_narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_narrow else _FILE_COLUMNS, markup=False)
