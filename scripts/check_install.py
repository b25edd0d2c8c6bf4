"""Is an installation of the wheel as light as promised? Run by the Python of an environment that holds nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions

MAX_DISTRIBUTIONS = 25
MAX_MIB = 60
NOT_OURS = {"pip", "setuptools"}
"""What a fresh environment comes with."""
FORBIDDEN = {"openai", "torch", "httpx", "pydantic", "starlette", "rich"}
"""What `import agentlightning` must not load."""

_TIMED = "import time; t = time.perf_counter(); import agentlightning; print(time.perf_counter() - t)"
_LOADED = "import sys, agentlightning; print(*sys.modules)"


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def broken_promises() -> Iterator[str]:
    """Measure, print the figures, and give each one that is over its limit."""
    installed = [entry for entry in distributions() if entry.metadata["Name"].lower() not in NOT_OURS]
    files = {file.locate() for entry in installed for file in entry.files or () if "__pycache__" not in file.parts}
    mib = sum(file.stat().st_size for file in files if file.is_file()) / 2**20
    seconds = min(float(run(_TIMED)) for _ in range(5))
    print(f"{len(installed)} distributions, {mib:.1f} MiB, import in {seconds * 1000:.0f} ms (best of 5)")
    if len(installed) > MAX_DISTRIBUTIONS:
        yield f"more than {MAX_DISTRIBUTIONS} distributions"
    if mib > MAX_MIB:
        yield f"more than {MAX_MIB} MiB"
    if loaded := sorted(FORBIDDEN & set(run(_LOADED).split())):
        yield f"importing agentlightning loads {', '.join(loaded)}"


if __name__ == "__main__":
    broken = list(broken_promises())
    print(*(f"error: {promise}" for promise in broken), sep="\n", end="\n" if broken else "")
    sys.exit(bool(broken))
