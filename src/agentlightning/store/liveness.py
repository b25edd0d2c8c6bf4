"""Does the process that carries a run still live? It puts a mark of itself on record; the system knows the rest.

A process that was killed writes nothing more, so its run says `running` for ever: a reader on the same machine finds
the process gone, and says `interrupted`. What runs on other machines is taken at its word.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def this_process() -> dict[str, Any]:
    """Host, boot and process namespace, where the system tells them, and the process with the moment it began."""
    return {**_here(), "pid": os.getpid(), "began": _began(os.getpid())}


def status_of(run: Mapping[str, Any]) -> str:
    """What became of a run, by its record's latest word; `interrupted` where it says that it runs and cannot."""
    status = run.get("status") or ""
    return "interrupted" if status == "running" and _is_gone(run.get("process") or {}) else status


def is_alive(run: Mapping[str, Any]) -> bool:
    """Is it certain that another process on this machine is at it right now?"""
    mark = run.get("process") or {}
    if run.get("status") != "running" or mark.get("pid") == os.getpid() or not _is_from_here(mark):
        return False
    return not _is_gone(mark)


def _is_gone(mark: Mapping[str, Any]) -> bool:
    here = _here()
    if mark.get("host") != here["host"]:
        return False
    if mark.get("boot") != here["boot"]:
        return True
    if not _is_from_here(mark):
        return False
    return mark.get("began") != _began(mark["pid"]) if _PROC.is_dir() else not _exists(mark["pid"])


def _is_from_here(mark: Mapping[str, Any]) -> bool:
    return "pid" in mark and all(mark.get(name) == value for name, value in _here().items())


def _here() -> dict[str, Any]:
    boot, namespace = _PROC / "sys/kernel/random/boot_id", _PROC / "self/ns/pid"
    return {
        "host": platform.node(),
        "boot": boot.read_text().strip() if boot.exists() else None,
        "namespace": os.readlink(namespace) if namespace.is_symlink() else None,
    }


def _began(pid: int) -> str | None:
    """When it began, in ticks since the boot; None for one that is not there, or is dead and waits to be collected."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    """Where there is no /proc. Windows cannot be asked like this: what says that it runs is believed."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
