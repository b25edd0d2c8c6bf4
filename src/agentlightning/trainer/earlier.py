"""An earlier result in the output folder is kept, numbered, and never written over without a word."""

from __future__ import annotations

from pathlib import Path

import msgspec

OURS = ("policy.yaml", "prompts", "weights", "result.json", "report.html", "trajectories.jsonl")
"""What a run writes. Whatever else lies in the folder stays where it is."""
FOLDER = "earlier"


def keep_earlier(folder: Path, run_id: str) -> str | None:
    """Move another run's files to `earlier/1`, `earlier/2`, …, and say so; None when there are none.

    A run that is resumed, or written again, takes the place of its own files.
    """
    if not (folder / "policy.yaml").exists() or (earlier := _run_of(folder)) == run_id:
        return None
    target = folder / FOLDER / str(_next(folder / FOLDER))
    target.mkdir(parents=True)
    for name in OURS:
        if (folder / name).exists():
            (folder / name).rename(target / name)
    whose = f"of run {earlier}" if earlier else "that was there"
    return f"the result {whose} was moved to {target}"


def _run_of(folder: Path) -> str | None:
    try:
        found = msgspec.json.decode((folder / "result.json").read_bytes())
    except (OSError, msgspec.DecodeError):  # a policy without its result: somebody's own, and worth keeping
        return None
    return found.get("run_id") if isinstance(found, dict) else None


def _next(folder: Path) -> int:
    numbers = [int(entry.name) for entry in folder.glob("*") if entry.name.isdecimal()]
    return max(numbers, default=0) + 1
