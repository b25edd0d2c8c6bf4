"""What a run says of itself at its end: everything that was skipped, lost, left behind or not counted, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agentlightning.data.trajectory import Trajectory
from agentlightning.models.ledger import Ledger
from agentlightning.trainer.runner import Runner


def closing_notes(rollouts: Sequence[Trajectory], runner: Runner, ledger: Ledger) -> list[str]:
    """One sentence for each thing a reader of the numbers must know; empty when there is none."""
    return [*_of_the_runner(runner), *_of_rollouts(rollouts), *_of_the_money(ledger)]


def _of_the_runner(runner: Runner) -> list[str]:
    notes: list[str] = []
    if runner.num_abandoned:
        notes.append(f"{runner.num_abandoned} rollouts hung past their time-out; their threads were left behind.")
    if runner.pace.num_refused:
        notes.append(f"{runner.pace.num_refused} calls were refused for their rate (429); fewer were sent for a while.")
    if runner.num_lost:
        notes.append(
            f"{runner.num_lost} steps could not be recorded as they happened (the log of "
            "agentlightning.interception says why); those of rollouts that had ended by then are missing."
        )
    return notes


def _of_rollouts(rollouts: Sequence[Trajectory]) -> list[str]:
    notes: list[str] = []
    if missed := sum(bool(step.missed_sites) for t in rollouts for step in t.steps):
        notes.append(f"{missed} calls did not match the prompt they were optimised for and went out unchanged.")
    if failed := [t.error or t.status for t in rollouts if t.status in ("failed", "timeout")]:
        often = Counter(failed).most_common(1)[0][0]
        notes.append(f"the agent failed in {len(failed)} of {len(rollouts)} rollouts, most often: {often}")
    if unjudged := sum(t.reward is None for t in rollouts):
        notes.append(f"{unjudged} of {len(rollouts)} rollouts have no reward and count for nothing.")
    return notes


def _of_the_money(ledger: Ledger) -> list[str]:
    spent = ledger.snapshot()
    if spent.unpriced_calls and spent.usd is not None:  # where no price is known, the cost says so itself
        return ["some calls have no known price, so the cost in money is not complete."]
    return []
