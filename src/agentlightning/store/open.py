"""An address becomes a store: a folder, `sqlite:///file`, `memory:`, or a scheme that the STORES table knows."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from agentlightning.errors import ConfigError, near_miss
from agentlightning.store import STORES
from agentlightning.store.base import Store
from agentlightning.store.sqlite_file import Durability

# Two letters at least: `C:\runs` is a folder.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def open_store(address: str | Path | Store, *, durability: Durability = "process") -> Store:
    """The store at an address; a store given instead of an address is handed back as it is.

    `./runs` or an absolute path: a folder. `sqlite:///runs.sqlite3`: one file. `memory:`: a temporary folder, removed
    on close. Other schemes are looked up by name and called as `(address, durability=…)`.
    `durability="power"`: an acknowledged write also survives a power cut.
    Raises ConfigError for an unknown scheme, StoreError when the store cannot be opened.
    """
    if not isinstance(address, str | Path):
        return address
    if not str(address).strip():
        raise ConfigError("the store's address is empty. Write a folder such as ./runs.")
    scheme = _SCHEME.match(address) if isinstance(address, str) else None
    if scheme is None:
        return STORES.load("sqlite")(address, durability=durability)
    name = scheme[1].lower()
    if name == "memory":
        folder = tempfile.mkdtemp(prefix="agentlightning-")
        return STORES.load("sqlite")(folder, durability=durability, is_temporary=True)
    known = STORES.names()
    if name not in known:
        raise ConfigError(
            f"no store for addresses that begin with {name!r}.{near_miss(name, [*known, 'memory'])} "
            f"Known: a folder (./runs), memory:, {', '.join(f'{scheme}://' for scheme in sorted(known))}."
        )
    return STORES.load(name)(address, durability=durability)
