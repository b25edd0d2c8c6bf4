"""Runs in verl's environment: verl's own entry point, ended when the process that started it is gone.

Standard input is a pipe that nobody writes to. Its end means that the other side of it has died.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def watch_parent() -> None:
    """End this process, and with it Ray and verl's workers, once standard input ends."""

    def wait() -> None:
        while os.read(0, 1024):  # not through sys.stdin, whose lock a thread may not hold when Python ends
            continue
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="watch-parent", daemon=True).start()


if __name__ == "__main__":
    watch_parent()
    runpy.run_module("verl.trainer.main_ppo", run_name="__main__", alter_sys=True)
