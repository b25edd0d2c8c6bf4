"""Records written without waiting, whose failure is not lost: the next check raises it."""

from __future__ import annotations

from concurrent.futures import Future

from agentlightning.data.record import Record
from agentlightning.store.base import Cursor, Store


class Writes:
    """Submits records; a store that fails ends the run at the next `check`, with the store's own message."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failure: BaseException | None = None

    def submit(self, record: Record) -> None:
        self._store.submit([record]).add_done_callback(self._done)

    def check(self) -> None:
        """Raise the first failure there was."""
        if self._failure is not None:
            raise self._failure

    def _done(self, future: Future[Cursor]) -> None:
        if not future.cancelled() and self._failure is None:
            self._failure = future.exception()
