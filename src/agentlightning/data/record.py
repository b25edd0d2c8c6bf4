"""One entry of a store: a kind, an id, and a JSON body. Records are appended, never changed in place.

A later record with the same kind and id supersedes the earlier one for whoever asks for the latest.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any, Literal, get_args

import msgspec

RecordKind = Literal[
    "run",
    "stage",
    "task",
    "rollout",
    "step",
    "policy",
    "site",
    "evaluation",
    "completion",
    "metric",
    "log",
    "feedback",
    "control",
    "checkpoint",
]
RECORD_KINDS: tuple[str, ...] = get_args(RecordKind)

SCHEMA_VERSION = 1


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`run` and `rollout` say what it belongs to ("" for nothing), so readers can filter without opening the body."""

    kind: RecordKind
    id: str
    body: dict[str, Any]
    run: str = ""
    rollout: str = ""
    time: float
    """Seconds since the epoch, by the writer's clock; order by the store's cursor, not by this."""
    version: int = SCHEMA_VERSION


def make_record(kind: RecordKind, id: str, body: Any, *, run: str = "", rollout: str = "") -> Record:
    """A record of a struct or mapping, stamped now."""
    return Record(kind=kind, id=id, body=msgspec.to_builtins(body), run=run, rollout=rollout, time=time.time())


_random = random.Random()
"""Seeded by the system once: asking it every time gives up the interpreter lock, which under many threads costs more
than a rollout. A forked process must not draw its parent's numbers again."""
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_random.seed)


def new_id(prefix: str) -> str:
    """A short unique id such as `r-3f9c1a2b7d40`; 48 random bits."""
    return f"{prefix}-{_random.getrandbits(48):012x}"
