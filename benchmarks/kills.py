"""Kill training runs at random moments, resume them, and compare with runs that nobody killed.

    python -m benchmarks.kills                        # 80 kills of APO, 20 with a cap on calls, 3 of SFT and of RL
    python -m benchmarks.kills --apo 8 --capped 0 --sft 0 --rl 0 --seed 3

A trial starts `agentlightning train` in a folder, kills it (SIGKILL) at a moment drawn between its first word and its
last, before the run is on record as finished, and carries it on with `agentlightning resume`. Every fourth trial kills
the resumed run as well; every fifth moves the folder in between. Asked afterwards:

* is everything in `result.json` (policy, history, scores, interval, each task's outputs) what the whole run gave?
* how many calls reached the model more often than in the whole run, and is that more than were lost (calls which had
  reached the model when the process died, and whose rollout or answer was not on record yet) and one rollout, which
  shows a resumed run the agent's endpoint and key again, as those are not on record?
* is a rollout on record twice?

For weights there is no server to count; losses and rewards that were logged, and the rollouts on record, are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.killed_worlds import (
    CONFIG,
    ON_WEIGHTS,
    Listening,
    OnRecord,
    differences,
    on_record,
    outcome,
    write_project,
)

from agentlightning.demo.server import SimulatedServer

COMMAND = [sys.executable, "-c", "from agentlightning.cli.main import main; main()"]
LOOK = 4
"""Most calls of the one rollout that shows a resumed run the endpoint and its key, which are not on record."""
MAX_DRAWS = 6
"""A run that was finished before its moment came is no trial; another moment is drawn."""


class Life(msgspec.Struct):
    """One process, from its first word to its last."""

    seconds: float
    stage: str
    """Where it was when it ended."""
    was_killed: bool
    error: str = ""


class Trial(msgspec.Struct):
    """One run, killed once or twice, and how it ended."""

    number: int
    stages: list[str]
    """Where it was when it was killed."""
    was_moved: bool = False
    different: list[str] = []
    """Fields of the result that are not those of the whole run."""
    num_lost: int = 0
    """Calls that had reached the model, but whose rollout or answer was not on record, at the kills."""
    num_again: int = 0
    """Calls that reached the model more often than in the whole run."""
    num_looks: int = 0
    """Resumed runs, each of which may have to look for the endpoint."""
    repeated: int = 0
    max_loss_difference: float = 0.0
    error: str = ""

    @property
    def is_fine(self) -> bool:
        return not (
            self.error or self.different or self.repeated or self.num_again > self.num_lost + self.num_looks * LOOK
        )


def live(folder: Path, arguments: Sequence[str], url: str, kill_after: float | None = None) -> Life:
    """Run the command in `folder`; kill it that many seconds after its first word."""
    env = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none", "OMP_NUM_THREADS": "1"}
    env |= {"DEMO_MODEL": "demo-model", "AGENTLIGHTNING_DEVICE": "cpu"}
    with (folder / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--json"], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    stage, began, spoke, killer = "start", 0.0, 0.0, None
    with process.stdout:
        for line in process.stdout:
            if not began:
                began = time.perf_counter()
                if kill_after is not None:
                    killer = threading.Timer(kill_after, os.kill, (process.pid, signal.SIGKILL))
                    killer.start()
            stage, spoke = stage_of(line, stage), time.perf_counter()
    code = process.wait()
    if killer is not None:
        killer.cancel()
    said = (folder / "stderr.txt").read_text().strip()
    error = "" if code in (0, -signal.SIGKILL) else f"exit {code}: {said[-300:]}"
    return Life(spoke - began, stage, code == -signal.SIGKILL, error)


def stage_of(line: str, stage: str) -> str:
    """The stage a run is in after it wrote this line."""
    try:
        event = json.loads(line)
    except json.JSONDecodeError:  # the line at which it was killed
        return stage
    return "end" if event["event"] == "end" else event.get("stage") or stage


class Killing:
    """Trials in one world, beside the same run left alone."""

    def __init__(self, world: str, root: Path, seed: int) -> None:
        self.world = world
        self.root = root
        self.seed = seed
        self.seconds = 0.0
        self.whole: dict[str, Any] = {}
        self.asked: Counter[bytes] = Counter()
        self.record = OnRecord()

    @contextmanager
    def project(self, name: str) -> Generator[tuple[Path, Listening, str]]:
        """A fresh folder, and a model that listens."""
        folder, listening = self.root / f"{self.world}-{name}", Listening()
        write_project(self.world, folder)
        with SimulatedServer(speaker=listening) as server:
            yield folder, listening, server.base_url

    def leave_alone(self, name: str) -> list[str]:
        """A whole run. The first is what all are compared with; gives back in which fields this one differs."""
        with self.project(name) as (folder, listening, url):
            life = live(folder, ["train", "-c", "config.yaml"], url)
            if life.error:
                raise SystemExit(f"the run that nobody kills failed: {life.error}")
            self.seconds = max(self.seconds, life.seconds)
            if not self.whole:
                self.whole, self.asked, self.record = outcome(self.world, folder), listening.asked, on_record(folder)
            changed = listening.asked != self.asked
            return differences(outcome(self.world, folder), self.whole) + ["the calls"] * changed

    def kill(self, number: int) -> Trial:
        """One trial; what goes wrong is in it."""
        draw = random.Random(f"{self.seed}/{self.world}/{number}")
        for attempt in range(MAX_DRAWS):
            with self.project(f"{number}-{attempt}") as (folder, listening, url):
                trial = Trial(number, [])
                life = self._die(trial, folder, listening, url, ["train", "-c", "config.yaml"], draw)
                if not life.was_killed or life.stage == "end":
                    continue
                if number % 5 == 4:
                    folder, trial.was_moved = folder.rename(folder.with_name(f"{folder.name}-moved")), True
                if number % 4 == 3:
                    life = self._die(trial, folder, listening, url, ["resume"], draw)
                if life.was_killed and life.stage != "end":
                    life = live(folder, ["resume"], url)
                    trial.num_looks += 1
                trial.error = trial.error or life.error
                self._compare(trial, folder, listening)
                return trial
        return Trial(number, [], error=f"ended before its moment came, {MAX_DRAWS} times")

    def _die(
        self, trial: Trial, folder: Path, listening: Listening, url: str, arguments: list[str], draw: random.Random
    ) -> Life:
        life = live(folder, arguments, url, draw.uniform(0, self.seconds))
        trial.num_looks += arguments[0] == "resume"
        trial.error = trial.error or life.error
        if life.was_killed:
            record = on_record(folder)
            life.stage = "end" if record.is_finished else life.stage
            trial.stages.append(life.stage)
            trial.num_lost = max(0, listening.asked.total() - record.num_calls)
        return life

    def _compare(self, trial: Trial, folder: Path, listening: Listening) -> None:
        if trial.error:
            return
        record = on_record(folder)
        trial.different = differences(outcome(self.world, folder), self.whole)
        trial.num_again = sum(max(0, n - self.asked[body]) for body, n in listening.asked.items())
        trial.repeated = record.repeated + (record.num_rollouts != self.record.num_rollouts)
        trial.max_loss_difference = loss_difference(record, self.record)


def loss_difference(one: OnRecord, other: OnRecord) -> float:
    """The largest difference of any number that was logged; infinite where other things were logged."""
    if [list(line) for line in one.losses] != [list(line) for line in other.losses]:
        return float("inf")
    pairs = [
        (a[key], b[key]) for a, b in zip(one.losses, other.losses, strict=True) for key in a if "second" not in key
    ]
    return max((abs(a - b) for a, b in pairs), default=0.0)


def report(world: str, trials: Sequence[Trial], wholes: int, changed: list[str]) -> None:
    """The table, and every trial that was not fine."""
    print(f"\n{world}: {wholes} whole runs alike" if not changed else f"\n{world}: whole runs differ in {changed}")
    print(
        "| killed during | kills | same result | calls lost, mean (most) | made again, mean (most) | rollouts twice |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    rows = [(stage, [t for t in trials if t.stages[:1] == [stage]]) for stage in stages_in_order(trials)]
    rows += [("a resumed run, too", [t for t in trials if len(t.stages) > 1])]
    rows += [("folder moved", [t for t in trials if t.was_moved]), ("**all**", list(trials))]
    for name, some in rows:
        if some:
            lost, again = [t.num_lost for t in some], [t.num_again for t in some]
            print(
                f"| {name} | {len(some)} | {sum(not (t.different or t.error) for t in some)} | "
                f"{sum(lost) / len(lost):.1f} ({max(lost)}) | {sum(again) / len(again):.1f} ({max(again)}) | "
                f"{sum(t.repeated for t in some)} |"
            )
    if world in ON_WEIGHTS:
        print(f"largest difference of a logged number: {max(t.max_loss_difference for t in trials):g}")
    for trial in trials:
        if not trial.is_fine:
            print("not fine:", msgspec.json.encode(trial).decode())


def stages_in_order(trials: Sequence[Trial]) -> list[str]:
    order = ["start", "preflight", "baseline", "1-apo", "1-sft", "1-rl", "test", "end"]
    return sorted({stage for t in trials for stage in t.stages[:1]}, key=order.index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for world, count in {"apo": 80, "capped": 20, "sft": 3, "rl": 3}.items():
        parser.add_argument(f"--{world}", type=int, default=count, help="how many kills")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="trials at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="a folder that keeps all projects")
    given = parser.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as scratch:
        for world in CONFIG:
            if count := getattr(given, world):
                fine &= trials_of(world, count, given.jobs, given.seed, given.keep or Path(scratch))
    raise SystemExit(0 if fine else 1)


def trials_of(world: str, count: int, jobs: int, seed: int, root: Path) -> bool:
    """Run and report them; was all of it fine?"""
    killing = Killing(world, root, seed)
    changed = killing.leave_alone("whole")
    with ThreadPoolExecutor(jobs) as pool:  # as many at a time as trials later, so that their seconds are known
        changed += [name for names in pool.map(killing.leave_alone, map(str, range(jobs))) for name in names]
        trials = list(pool.map(killing.kill, range(count)))
    report(world, trials, jobs + 1, changed)
    return not changed and all(trial.is_fine for trial in trials)


if __name__ == "__main__":
    main()
