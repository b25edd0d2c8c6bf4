"""transformers draws progress bars while it loads and saves; a run has a progress display of its own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def without_bars() -> Generator[None]:
    """No bars of transformers in this block; outside it they are as the user left them."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
