"""Processes that end with us: each leads a group of its own, and the group is ended whole.

Should this process be killed, a warden does it: a bare interpreter at the end of a pipe that knows the groups. Where
the system has no process groups (Windows), only the process itself is ended, and nobody does it for us.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_WARDEN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class _Warden:
    """Started with the first group there is to know, replaced should it die."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._is_registered = False

    def add(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}")

    def discard(self, group: int) -> None:
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                self._tell(f"-{group}")

    def close(self) -> None:
        """Ends what is still known, and then the warden itself."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()

    def forked(self) -> None:
        """This is a child of the process that had it: the pipe must not stay open here when that one is gone."""
        if self._process is not None and self._process.stdin is not None:
            os.close(self._process.stdin.fileno())
            self._process.returncode = 0  # it is no child of ours to wait for
        self.__init__()

    def _tell(self, line: str) -> None:
        if self._process is None:
            return self._start()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            self._process.wait()
            self._start()

    def _start(self) -> None:
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self.forked)
        command = [sys.executable, "-I", "-S", "-c", _WARDEN]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        assert self._process.stdin is not None
        self._process.stdin.writelines(f"+{group}\n" for group in self._groups)
        self._process.stdin.flush()


_warden = _Warden()


def keep(pid: int) -> None:
    """End this process's group when we end, however that comes. It was started as a leader (`start_new_session`)."""
    if hasattr(os, "killpg"):
        _warden.add(pid)


def signal_group(pid: int, name: str = "SIGKILL") -> None:
    """To a process and everything it started; nothing happens when they have ended."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, getattr(signal, name))
        else:
            os.kill(pid, signal.SIGTERM)


def forget(pid: int) -> None:
    """The process was waited for, so its number may soon be another's."""
    if hasattr(os, "killpg"):
        _warden.discard(pid)
