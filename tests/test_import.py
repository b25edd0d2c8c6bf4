"""Importing Agent Lightning costs next to nothing: it loads no framework, no SDK, and hardly any of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOADED_BY_IMPORT = {"agentlightning"}
"""Our own modules that `import agentlightning` may load. Everything else waits until it is used."""

MAX_RSS_GROWTH_MIB = 60

_IMPORT = """
import json, sys

def resident_kib():
    try:
        lines = open("/proc/self/status").readlines()
    except FileNotFoundError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes on macOS
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])

before, memory = set(sys.modules), resident_kib()
{code}
print(json.dumps([sorted(set(sys.modules) - before), resident_kib() - memory]))
"""


def loaded_by(code: str) -> tuple[set[str], float]:
    """Modules that some code loads in a fresh interpreter, and the memory it takes in MiB."""
    script = _IMPORT.replace("{code}", code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names, growth_kib = json.loads(done.stdout.splitlines()[-1])
    return set(names), growth_kib / 1024


def strangers(names: set[str]) -> set[str]:
    """Top-level names that are neither Python's nor ours."""
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"agentlightning"}


def test_importing_us_loads_nothing_but_us():
    names, growth_mib = loaded_by("import agentlightning")
    assert strangers(names) == set()
    assert {name for name in names if name.startswith("agentlightning")} <= LOADED_BY_IMPORT
    assert growth_mib <= MAX_RSS_GROWTH_MIB


def test_using_the_public_names_loads_no_sdk_and_no_framework():
    names, growth_mib = loaded_by("import agentlightning as a; [getattr(a, name) for name in a.__all__]")
    assert (
        strangers(names) & {"openai", "anthropic", "torch", "transformers", "langchain", "requests", "aiohttp"} == set()
    )
    assert "agentlightning.data.task" in names
    assert growth_mib <= MAX_RSS_GROWTH_MIB


def test_the_measure_sees_what_an_import_loads_and_takes():
    names, growth_mib = loaded_by("import pydantic; keep = bytearray(b'x') * 100_000_000")
    assert "pydantic" in strangers(names)
    assert growth_mib > 90


def test_the_command_shows_its_help():
    command = Path(sys.executable).parent / "agentlightning"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout and "demo" in done.stdout


def test_help_loads_no_room_that_runs_anything():
    names, _ = loaded_by("from agentlightning.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    rooms = {name.split(".")[1] for name in names if name.startswith("agentlightning.")}
    assert rooms <= {"cli", "errors"}
    assert strangers(names) & {"openai", "torch", "pydantic", "httpx", "starlette"} == set()
