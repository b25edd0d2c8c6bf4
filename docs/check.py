"""Does the documentation still tell the truth? Runs the code of README and docs as a reader would type it.

    python docs/check.py                     # every page, about a minute
    python docs/check.py docs/rewards.md     # some pages

Each page is one process in a temporary folder that holds a `tickets.jsonl` (the demo's 124 tickets for README, whose
printed results are checked, fewer elsewhere), with the OPENAI_… variables pointing at the simulated model. Its blocks
share their names, in order:

* ```python runs. One whose first line names a file (`# my_agent.py`) is also written there, for later blocks.
* ```yaml that starts with `# al_config.yaml` is written to that file and read as a configuration.
* ```console runs its `$ agentlightning …` lines, which must exit 0.
* ```text that says "Improved from … to …" must say what the page's own run printed.

A block is left out only by `<!-- not run: reason -->` on the line before it. Links to files must lead somewhere.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agentlightning.demo.server import SimulatedServer
from agentlightning.demo.tasks import make_tasks
from agentlightning.trainer.config import load_config

ROOT = Path(__file__).resolve().parent.parent
PAGE_SECONDS = 120
FEW = 40
_DONE = "every block ran"
_FENCE = re.compile(r"^```(\w*)\s*$")
_EXEMPT = re.compile(r"^<!--\s*not run:\s*(.*?)\s*-->$")
_FILE = re.compile(r"^# ([\w-]+\.(?:py|yaml))\b")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


class Block(NamedTuple):
    """A fenced block: its language, the line its code begins on (from 1), and its code."""

    language: str
    line: int
    code: str
    is_exempt: bool = False

    @property
    def commands(self) -> list[str]:
        """What a console block tells the reader to type of ours."""
        lines = self.code.split("\n") if self.language == "console" else []
        return [line[2:] for line in lines if line.startswith("$ agentlightning")]

    @property
    def claims(self) -> list[str]:
        """The verdicts a printed result shows."""
        lines = self.code.split("\n") if self.language == "text" and not self.is_exempt else []
        return [line for line in lines if line.startswith("Improved from")]

    @property
    def is_runnable(self) -> bool:
        is_config = self.language == "yaml" and _FILE.match(self.code) is not None
        return not self.is_exempt and (self.language == "python" or is_config or bool(self.commands))


def read_blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order. ValueError for a fence that is not closed or an exemption unexplained."""
    blocks: list[Block] = []
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        number += 1
        if fence is None:
            continue
        start = number
        while number < len(lines) and lines[number].rstrip() != "```":
            number += 1
        if number == len(lines):
            raise ValueError(f"line {start}: this block is never closed")
        is_exempt = start >= 2 and _is_exemption(lines[start - 2], start)
        blocks.append(Block(fence[1], start + 1, "\n".join(lines[start:number]), is_exempt))
        number += 1
    return blocks


def runnable(page: Path) -> list[Block]:
    """The blocks of a page that are to be run."""
    return [block for block in read_blocks(page.read_text(encoding="utf-8")) if block.is_runnable]


def _is_exemption(line: str, number: int) -> bool:
    comment = _EXEMPT.match(line)
    if comment is not None and not comment[1]:
        raise ValueError(f"line {number - 1}: say why the block is not run")
    return comment is not None


def broken_links(page: Path) -> Iterator[str]:
    """Relative links of a page that lead to no file."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not (page.parent / target).exists():
            yield target


# ── one page, in a process of its own ──


def run_page(page: Path) -> None:
    """Run a page's blocks in the current folder; what a block raises ends it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    sys.path[0] = ""  # as for a reader, whose programs lie in the current folder
    for block in runnable(page):
        _run(block, page, names)
    print(f"\n{_DONE}")


def _run(block: Block, page: Path, names: dict[str, Any]) -> None:
    if file := _FILE.match(block.code):
        Path(file[1]).write_text(block.code + "\n", encoding="utf-8")
    if block.language == "python":
        # Blank lines in front: a traceback then names the page's own lines.
        exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)
    elif block.language == "yaml":
        load_config(file[1] if file else "al_config.yaml", env={})
    for command in block.commands:
        program, *arguments = shlex.split(command, comments=True)
        done = subprocess.run([str(Path(sys.executable).with_name(program)), *arguments], check=False)
        if done.returncode:
            raise RuntimeError(f"{page.name} line {block.line}: `{command}` exited with {done.returncode}")


# ── all pages ──


class Outcome(NamedTuple):
    """What became of one page."""

    page: Path
    problem: str = ""
    """Empty when all of it holds."""
    num_blocks: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        name = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        if self.problem:
            return f"FAILED  {name}\n{self.problem}"
        return f"ok      {name}: {self.num_blocks} blocks, {self.seconds:.1f} s"


def check(page: Path, base_url: str) -> Outcome:
    """Run one page in a process and a folder of its own."""
    started = time.monotonic()
    try:
        blocks = read_blocks(page.read_text(encoding="utf-8"))
    except ValueError as error:
        return Outcome(page, f"    {error}")
    num_blocks = sum(block.is_runnable for block in blocks)
    if missing := list(broken_links(page)):
        return Outcome(page, f"    links to files that are not there: {', '.join(missing)}")
    if not num_blocks:
        return Outcome(page)
    with tempfile.TemporaryDirectory(prefix="docs-") as folder:
        _write_tickets(Path(folder) / "tickets.jsonl", None if page.name.startswith("README") else FEW)
        command = [sys.executable, __file__, "--run-page", str(page)]
        try:
            done = subprocess.run(
                command, cwd=folder, env=_environment(base_url), capture_output=True, text=True, timeout=PAGE_SECONDS
            )
        except subprocess.TimeoutExpired:
            return Outcome(page, f"    not done after {PAGE_SECONDS} s")
    if done.returncode or not done.stdout.endswith(f"{_DONE}\n"):
        said = [*done.stderr.splitlines()[-25:], f"exit status {done.returncode}"]
        return Outcome(page, "\n".join(f"    {line}" for line in said))
    untrue = [claim for block in blocks for claim in block.claims if claim not in done.stdout + done.stderr]
    if untrue:
        return Outcome(page, f"    the page says {untrue[0]!r}, but its run did not")
    return Outcome(page, num_blocks=num_blocks, seconds=time.monotonic() - started)


def _write_tickets(path: Path, limit: int | None) -> None:
    every = [task for split in make_tasks().values() for task in split]
    tasks = [{"input": task.input, "expected": task.expected} for task in every[:limit]]
    path.write_bytes(b"".join(msgspec.json.encode(task) + b"\n" for task in tasks))


def _environment(base_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "AGENTLIGHTNING_"))}
    return kept | {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "simulated", "PYTHONUTF8": "1", "COLUMNS": "140"}


def main(arguments: list[str]) -> int:
    """Check the named pages, or all of them; 1 when one fails."""
    pages = [Path(name).resolve() for name in arguments] or [*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")]
    if not pages:
        print("error: there are no pages to check", file=sys.stderr)
        return 1
    with SimulatedServer() as server, ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = []
        for outcome in pool.map(lambda page: check(page, server.base_url), sorted(pages)):
            print(outcome.line(), flush=True)
            outcomes.append(outcome)
    return int(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run-page"]:
        run_page(Path(sys.argv[2]))
    else:
        sys.exit(main(sys.argv[1:]))
