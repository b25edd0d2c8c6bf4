"""What the text-to-SQL agent is rewarded for: the right answer, if a query gave it. Written as a user would."""

from __future__ import annotations

from agentlightning.data.call import message_text
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory


def answered_from_data(task: Task, trajectory: Trajectory) -> tuple[float, str]:
    """1 for the expected answer where the database returned it; else 0, and what went wrong."""
    answer, results = str(trajectory.output).strip(), _results(trajectory)
    errors = [text for text in results if text.startswith("error:")]
    if answer == task.expected and answer in results:
        return 1.0, "right, and the database said so"
    if not results:
        return 0.0, f"it answered {answer!r} without asking the database"
    if results[-1].startswith("error:"):
        return 0.0, f"it gave up after an error ({errors[-1].removeprefix('error: ')})"
    if answer not in results:
        return 0.0, f"it answered {answer!r}, which no query returned"
    return 0.0, f"a query returned {answer}, but it was the wrong query: {task.expected} was right"


def _results(trajectory: Trajectory) -> list[str]:
    """Everything tools returned, as the model was told it."""
    calls = [step.call for step in trajectory.model_steps if step.call is not None]
    last = max(calls, key=lambda call: len(call.messages), default=None)
    return [message_text(message) for message in last.messages if message.get("role") == "tool"] if last else []
