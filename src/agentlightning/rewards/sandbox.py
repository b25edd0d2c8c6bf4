"""A program nobody trusts, run in a process of its own with limits on time, memory, files and network.

Which walls stand depends on the system; the first of these that can be built is used, tried out once per process:

namespaces  Linux where they may be made (as root, or where users may). The program sees a root of its own with Python's
            folders, read-only, and a scratch folder in memory; no network, no other process; nothing outlives it
landlock    Linux where they may not (most containers). Landlock and seccomp: it can read Python's folders and write its
            scratch folder, open no socket, signal nobody. It can still ask whether another file is there, and its size
limits      elsewhere, and only when asked for: time, memory, file sizes. Files and network stay open

Limits are the kernel's, for each process; `max_processes` of them are the most there can be.
"""

from __future__ import annotations

import functools
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from agentlightning.errors import ConfigError

Mode = Literal["namespaces", "landlock", "limits"]
Ending = Literal["exited", "killed", "timeout", "output"]
"""killed: by a signal, such as the CPU limit's. timeout and output: ended by us, for wall time or too much output."""

_LAUNCHER = str(Path(__file__).with_name("sandbox_launcher.py"))
_SETUP_SECONDS = 60.0
_WORDS: dict[Mode, str] = {
    "namespaces": "Linux namespaces: own files, no network, own processes, limits on time and memory",
    "landlock": "Landlock and seccomp: files fenced, no sockets, no signals, limits on time and memory; "
    "whether another file exists can be seen",
    "limits": "limits on time and memory ONLY: programs can read and write what you can, and use the network",
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may use. Memory, CPU time and open files count for each process."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_bytes: int = 512 << 20
    max_processes: int = 8
    """Processes and threads at one time."""
    max_open_files: int = 64
    file_bytes: int = 16 << 20
    """Of one file."""
    scratch_bytes: int = 64 << 20
    """Of all files; kept in memory. Only namespaces hold a program to it."""
    output_bytes: int = 1 << 20
    """Of standard output and of standard error, each."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is run: arguments for a Python interpreter, started in a scratch folder that holds the files."""

    arguments: list[str]
    files: dict[str, str] = {}
    """Name in the scratch folder → its text."""
    copies: dict[str, str] = {}
    """Name in the scratch folder → the file of the host it is a copy of."""
    stdin: str = ""
    python: str = ""
    """The interpreter; the one we run under when not given, without the packages of its virtual environment."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a program."""

    ending: Ending
    exit_code: int | None
    """Negative: the signal that ended it. None: it was ended by us."""
    stdout: str
    stderr: str
    seconds: float
    mode: Mode

    @property
    def is_fine(self) -> bool:
        return self.ending == "exited" and self.exit_code == 0

    def describe(self) -> str:
        """How it ended, in words, with the last line it complained."""
        if self.ending == "timeout":
            return f"it was still running after {self.seconds:.1f} s and was stopped"
        if self.ending == "output":
            return "it wrote more output than allowed and was stopped"
        last = next((line.strip() for line in reversed(self.stderr.splitlines()) if line.strip()), "")
        said = f": {last[:300]}" if last else ""
        if self.ending == "killed":
            number = -(self.exit_code or 0)
            cause = "its CPU time was used up" if number == signal.SIGXCPU else f"signal {number} ended it"
            return f"{cause}{said}"
        return f"it exited with {self.exit_code}{said}"


def run_sandboxed(program: Program, limits: Limits | None = None, *, allow_weak: bool = False) -> Outcome:
    """Run a program behind the best walls this system allows, and wait for it.

    Whatever the program does is an Outcome. Raises ConfigError where only limits could be set, unless `allow_weak`.
    """
    mode = available_mode(program.python)
    if mode == "limits" and not allow_weak:
        raise ConfigError(
            "programs written by a model are not run here: this system allows neither Linux namespaces nor Landlock "
            f"({_why_weaker(program.python)}). Run on Linux 5.13 or newer, or in a container that permits them; or, if "
            "everything on this machine may be read, changed and sent away, say allow_weak_isolation: true."
        )
    return _run(mode, program, limits or Limits())


def health(python: str = "") -> str:
    """One line that says which walls are in force here."""
    mode = available_mode(python)
    why = f" ({_why_weaker(python)})" if mode != "namespaces" else ""
    return f"programs are run behind {_WORDS[mode]}{why}"


def available_mode(python: str = "") -> Mode:
    """The strongest mode this system allows; found out by running a program once."""
    return _probe(python)[0]


def _why_weaker(python: str) -> str:
    return "; ".join(f"{mode}: {why}" for mode, why in _probe(python)[1].items())


@functools.cache
def _probe(python: str) -> tuple[Mode, dict[Mode, str]]:
    refusals: dict[Mode, str] = {}
    modes: tuple[Mode, ...] = ("namespaces", "landlock") if sys.platform == "linux" else ()
    for mode in modes:
        try:
            tried = _run(mode, Program(arguments=["-c", "pass"], python=python), Limits())
        except SandboxRefused as error:
            refusals[mode] = str(error)
            continue
        if tried.is_fine:
            return mode, refusals
        refusals[mode] = tried.describe()
    return "limits", refusals


class SandboxRefused(ConfigError):
    """A wall could not be built, so the program was not started."""


class _Streams(NamedTuple):
    """What is read from a running program, until all have ended."""

    stdout: bytearray
    stderr: bytearray
    status: bytearray


def _run(mode: Mode, program: Program, limits: Limits) -> Outcome:
    if os.name != "posix":
        raise SandboxRefused("programs are run on Linux and macOS only.")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="agentlightning-sandbox-") as folder:
        os.chmod(folder, 0o711)  # the program's user must be able to pass through, not to look
        given, taken = os.pipe()
        with os.fdopen(given, "rb", buffering=0) as status:
            try:
                launcher = _launch(mode, program, limits, folder, taken)
            finally:
                os.close(taken)
            with launcher:
                streams, ended_by_us = _read(launcher, status, limits, mode)
    return _outcome(mode, streams, ended_by_us, time.monotonic() - started)


def _launch(mode: Mode, program: Program, limits: Limits, folder: str, status: int) -> subprocess.Popen[bytes]:
    python = os.path.realpath(program.python or sys.executable)
    prefix = os.path.dirname(os.path.dirname(python)) if program.python else os.path.realpath(sys.base_prefix)
    spec = {
        "mode": mode,
        "folder": folder,
        "status_fd": status,
        "program": [python, *program.arguments],
        "readable": [prefix],
        "files": program.files,
        "copies": {name: os.path.abspath(path) for name, path in program.copies.items()},
        "limits": msgspec.to_builtins(limits),
    }
    path = Path(folder, "spec.json")
    path.touch(0o600)
    path.write_bytes(msgspec.json.encode(spec))
    Path(folder, "stdin").write_text(program.stdin, encoding="utf-8", newline="")
    with Path(folder, "stdin").open("rb") as stdin:
        return subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-S", "-B", _LAUNCHER, str(path)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd=folder,
            pass_fds=(status,),
            start_new_session=True,
        )


def _read(launcher: subprocess.Popen[bytes], status: Any, limits: Limits, mode: Mode) -> tuple[_Streams, Ending | None]:
    """Everything the program says, up to the limits; then the launcher is gone, and the program with it.

    The wall time is the program's own: a busy machine that takes long to build the walls does not use it up.
    """
    deadline = time.monotonic() + _SETUP_SECONDS + limits.wall_seconds
    streams, ended_by_us = _Streams(bytearray(), bytearray(), bytearray()), None
    assert launcher.stdout is not None and launcher.stderr is not None
    with selectors.DefaultSelector() as selector:
        for source, kept in zip((launcher.stdout, launcher.stderr, status), streams, strict=True):
            selector.register(source, selectors.EVENT_READ, kept)
        while selector.get_map():
            if time.monotonic() >= deadline:  # asked first, since a program that never stops talking is always ready
                if ended_by_us is not None:
                    break  # a descendant that cannot be ended holds a pipe; what was read is all there will be
                ended_by_us = "timeout"
                _stop(launcher, mode)
                deadline = time.monotonic() + 5.0
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(key.fd, 65536)
                if key.data is streams.status and not key.data and ended_by_us is None:
                    deadline = time.monotonic() + limits.wall_seconds
                if not chunk:
                    selector.unregister(key.fileobj)
                elif len(key.data) < limits.output_bytes:
                    key.data.extend(chunk[: limits.output_bytes - len(key.data)])
                elif ended_by_us is None:
                    ended_by_us = "output"
                    _stop(launcher, mode)
                    deadline = time.monotonic() + 5.0
    return streams, ended_by_us


def _stop(launcher: subprocess.Popen[bytes], mode: Mode) -> None:
    """With namespaces the kernel takes everybody along; else the launcher must clean up, and is given time to."""
    if mode == "namespaces":
        launcher.kill()
        return
    launcher.terminate()
    try:
        launcher.wait(2.0)
    except subprocess.TimeoutExpired:
        launcher.kill()


def _outcome(mode: Mode, streams: _Streams, ended_by_us: Ending | None, seconds: float) -> Outcome:
    said: dict[str, Any] = {}
    for line in bytes(streams.status).splitlines():
        said |= msgspec.json.decode(line)
    if "refused" in said:
        raise SandboxRefused(said["refused"])
    code = said.get("ended")
    if ended_by_us is None and code is None:
        trouble = bytes(streams.stderr).decode(errors="replace").strip()[-500:]
        raise SandboxRefused(f"the launcher ended without a word. {trouble}")
    return Outcome(
        ending=ended_by_us or ("killed" if code is not None and code < 0 else "exited"),
        exit_code=None if ended_by_us else code,
        stdout=bytes(streams.stdout).decode(errors="replace"),
        stderr=bytes(streams.stderr).decode(errors="replace"),
        seconds=seconds,
        mode=mode,
    )


def python_program(script: str, *, extra: Mapping[str, str] | None = None, arguments: Sequence[str] = ()) -> Program:
    """A Program that runs one script, with other files beside it."""
    return Program(arguments=["-I", "-B", "script.py", *arguments], files={"script.py": script, **(extra or {})})
