"""What tools answered in earlier runs and in real use, for tools that are to answer from it (`record`, `replay`).

Every tool call of a rollout is a step in the store, so a tape needs no file of its own: whatever lies in this store
counts, the oldest answer first. What failed, or was made up by a stub, does not.
"""

from __future__ import annotations

from agentlightning.data.trajectory import Step
from agentlightning.interception.tools import ToolModes
from agentlightning.store.base import Store
from agentlightning.store.versions import read_noun


async def fill_tape(tools: ToolModes, store: Store) -> list[str]:
    """Put earlier answers on the tape. Gives a sentence for each tool that may only replay and has nothing to."""
    wanted = [name for name, mode in tools.modes.items() if mode.mode in ("record", "replay")]
    found: set[str] = set()
    if wanted:
        async for stored in store.read("step", {"name": wanted}):
            step = read_noun(stored.record, Step)
            if step.name and step.error is None and not (step.is_partial or step.is_simulated):
                tools.tape.put(step.name, step.arguments, step.result)
                found.add(step.name)
    silent = [name for name, mode in tools.modes.items() if mode.mode == "replay" and name not in found]
    return [
        f"tool {name!r} is in replay mode, but no answer of it is on record in {store.address}, so every call of it "
        "will fail. Run once with mode 'record', or collect in real use."
        for name in silent
    ]
