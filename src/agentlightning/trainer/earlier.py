"""An earlier result in the output folder is kept, numbered, and never written over without a word."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agentlightning.errors import DataError
from agentlightning.trainer.policy_folder import read_policy

OURS = ("prompts", "weights", "result.json", "report.html", "trajectories.jsonl", "policy.yaml")
"""What a run writes. Whatever else lies in the folder stays where it is."""
FOLDER = "earlier"


def keep_earlier(folder: Path, run_id: str) -> str | None:
    """Move another run's files to `earlier/1`, `earlier/2`, …, and say so; None when there are none.

    A run that is resumed, or written again, takes the place of its own files. The policy is moved last: where it still
    lies, an interrupted move goes on.
    """
    if not (folder / "policy.yaml").exists() or (earlier := _run_of(folder)) == run_id:
        return None
    target = folder / FOLDER / str(_next(folder / FOLDER))
    target.mkdir(parents=True, exist_ok=True)
    for name in OURS:
        if (folder / name).exists():
            (folder / name).rename(target / name)
    whose = f"of run {earlier}" if earlier else "that was there"
    return f"the result {whose} was moved to {target}"


def _run_of(folder: Path) -> str | None:
    """Which run the result is of; where that was not written any more, the policy. None for a policy of somebody's
    own, which is worth keeping as well."""
    try:
        found = msgspec.json.decode((folder / "result.json").read_bytes())
        return found.get("run_id") if isinstance(found, dict) else None
    except FileNotFoundError:
        pass
    except msgspec.DecodeError:
        return None
    try:
        measured = read_policy(folder).measured
    except DataError:
        return None
    return measured.run if measured else None


def _next(folder: Path) -> int:
    """The number of a new folder, or of the last one when its policy has not arrived yet."""
    last = max((int(entry.name) for entry in folder.glob("*") if entry.name.isdecimal()), default=0)
    return last if last and not (folder / str(last) / "policy.yaml").exists() else last + 1
