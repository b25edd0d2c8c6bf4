"""The run as one HTML file: what was claimed, on what evidence, what changed, task by task, and at what cost.

It loads nothing from anywhere and runs no script (its own content policy forbids both), so it can be mailed, archived
and opened years later; what agents wrote is only ever shown as text.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

from agentlightning.store.whole_file import draft
from agentlightning.trainer.report import sections
from agentlightning.trainer.result import TrainingResult


def write_report(result: TrainingResult, path: str | Path) -> Path:
    """Write the report to `path` (its folder is made if missing), whole or not at all; gives the path back."""
    path = Path(path)
    page = render(result).encode()
    with draft(path.parent) as writing:
        writing.file.write(page)
        writing.publish(path)
    return path


def render(result: TrainingResult) -> str:
    """The page as text."""
    parts = [
        sections.verdict(result),
        sections.notes(result),
        sections.changes(result),
        sections.stages(result),
        sections.tasks(result),
        sections.kinds(result),
        sections.search(result),
        sections.cost(result),
        sections.method(result),
    ]
    return Template(_read("page.html")).substitute(
        title=sections.escape(f"{result.headline} · {result.agent_id or 'Agent Lightning'}"),
        style=_read("style.css"),
        tone=sections.TONES[result.verdict],
        masthead=sections.masthead(result),
        body="\n".join(part for part in parts if part),
        footer=sections.footer(result),
    )


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
