"""The job as a child process: started, listened to, ended.

Its working directory, its log and its checkpoints are the job's folder. It sees our package and nothing else of this
environment: a folder with one link in it is put on its path.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentlightning.engine.base import Tell
from agentlightning.engine.verl.configuration import NAME, Place
from agentlightning.errors import ModelError

_LOG_LINES = 25
_END_SECONDS = 30
_LOOK_SECONDS = 0.5
_FIGURES = {
    "critic/rewards/mean": "reward",
    "response_length/mean": "length",
    "actor/entropy": "entropy",
    "actor/grad_norm": "grad_norm",
    "actor/ppo_kl": "kl_to_sampler",
    "actor/pg_clipfrac": "clipped_share",
    "timing_s/step": "seconds_learning",
}
"""verl's names → ours, for the run's curves."""


class Job:
    """One start of verl. Use it as a context: what was started is ended with the block."""

    def __init__(self, python: Path, place: Place, *, num_rounds: int) -> None:
        self._python = python
        self._place = place
        self._num_rounds = num_rounds
        self._process: subprocess.Popen[bytes] | None = None
        self._num_told = 0

    async def run(self, tell: Tell) -> None:
        """Until it has ended. ModelError, with the end of its log, when it did not end well."""
        link_package(self._place.code)
        self._place.metrics.unlink(missing_ok=True)
        self._start()
        assert self._process is not None
        while (status := self._process.poll()) is None:
            self._tell_new(tell)
            await asyncio.sleep(_LOOK_SECONDS)
        self._tell_new(tell)
        if status:
            raise ModelError(
                f"verl ended with status {status}. Its whole log is {self._place.log}; its end:{self._said()}"
            )

    async def end(self) -> None:
        """Also Ray and the workers, which verl takes with it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                _signal_group(process.pid, sign)
            try:
                await asyncio.to_thread(process.wait, _END_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        _signal_group(process.pid, signal.SIGKILL)  # workers that outlived their parent

    def _start(self) -> None:
        command = [str(self._python), "-u", "-m", "agentlightning.engine.verl.child"]
        command += ["--config-dir", str(self._place.folder), "--config-name", NAME]
        with self._place.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._place.folder,
                env=environment(self._place) | {"VERL_FILE_LOGGER_PATH": str(self._place.metrics)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _tell_new(self, tell: Tell) -> None:
        for step, figures in list(_read(self._place.metrics))[self._num_told :]:
            self._num_told += 1
            known = {ours: float(figures[name]) for name, ours in _FIGURES.items() if name in figures}
            reward = f": reward {known['reward']:.3f}" if "reward" in known else ""
            tell(f"verl: round {step} of {self._num_rounds}{reward}", known)

    def _said(self) -> str:
        lines = self._place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return "".join(f"\n      {line}" for line in lines)


def environment(place: Place) -> dict[str, str]:
    """The child's variables: ours, but for what would lead it to this environment's packages."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYTHONPATH": str(place.code), "PYTHONUNBUFFERED": "1"}


def link_package(code: Path) -> None:
    """Our package alone, in a folder of its own."""
    code.mkdir(parents=True, exist_ok=True)
    link, package = code / "agentlightning", Path(__file__).parents[2]
    if link.is_symlink() and link.resolve() == package:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(package, target_is_directory=True)


async def merge(python: Path, place: Place) -> dict[int, Path]:
    """Learning rounds → the adapter in PEFT's layout, of every checkpoint there is. ModelError when verl cannot."""
    if not place.checkpoints.is_dir():
        return {}
    link_package(place.code)
    command = [str(python), "-m", "agentlightning.engine.verl.merge", str(place.checkpoints), str(place.adapters)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment(place), cwd=place.folder, capture_output=True, text=True
    )
    if done.returncode:
        raise ModelError(f"verl's checkpoints in {place.checkpoints} could not be merged:\n{done.stderr[-2000:]}")
    return {int(path.name): path for path in place.adapters.iterdir() if path.name.isdigit()}


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines only: the last one may be half written."""
    if path.is_file():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                entry = json.loads(line)
                yield int(entry["step"]), entry["data"]


def _signal_group(pid: int, sign: int) -> None:
    try:
        os.killpg(pid, sign)
    except (ProcessLookupError, PermissionError):
        return  # it has ended
