"""What is in verl's environment: asked of its own interpreter, before anything is begun.

verl, vLLM and PyTorch pin one another, and none of them fits beside an agent's own packages; so only the path of an
interpreter is known here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import msgspec

from agentlightning.errors import ConfigError, MissingExtra, ModelError

SUPPORTED = "0.9"
"""The releases whose configuration and agent loops are known here: 0.9.x."""
INSTALL = "pip install 'verl[vllm]==0.9.1'"
_LOOK_SECONDS = 300
_LOOK = """
import json, sys
from importlib import metadata

def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""

found = {name: version(name) for name in ("verl", "vllm", "httpx", "TransferQueue")}
gpus = 0
if found["verl"]:
    import torch
    gpus = torch.cuda.device_count()
print(json.dumps({"python": list(sys.version_info[:2]), "gpus": gpus, **{k.lower(): v for k, v in found.items()}}))
"""


class Environment(msgspec.Struct, frozen=True):
    """What one interpreter sees."""

    python: tuple[int, int]
    gpus: int
    verl: str
    vllm: str
    httpx: str
    transferqueue: str


def look(python: Path) -> Environment:
    """ConfigError when there is no such program, ModelError when it cannot import its own PyTorch."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            [str(python), "-c", _LOOK], capture_output=True, text=True, timeout=_LOOK_SECONDS, env=environment
        )
    except OSError as error:
        raise ConfigError(
            f"engine.python: {str(python)!r} is no program here ({error.strerror}). Give the interpreter of an "
            f"environment with verl: python3 -m venv /opt/verl && /opt/verl/bin/{INSTALL}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{python} did not say within {_LOOK_SECONDS} seconds what it has installed.") from error
    if done.returncode:
        raise ModelError(f"{python} could not say what it has installed:\n{done.stderr.strip()[-1500:]}")
    return msgspec.convert(json.loads(done.stdout.strip().splitlines()[-1]), Environment)


def check(found: Environment, python: Path, *, gpus: int, needs_gpus: bool = True) -> None:
    """ConfigError or MissingExtra for an environment in which the job cannot run, with what to do about it."""
    here = Path(python).parent / INSTALL
    if not found.verl:
        raise MissingExtra(f"engine verl: {python} has no verl.  {here}")
    if not found.verl.startswith(f"{SUPPORTED}."):
        raise ConfigError(
            f"engine verl writes its configuration for verl {SUPPORTED}.x, and {python} has {found.verl}.  {here}"
        )
    if found.python < (3, 11):
        was = ".".join(map(str, found.python))
        raise ConfigError(f"engine verl needs Python 3.11 or 3.12 in verl's environment, and {python} is {was}.")
    missing = [name for name in ("httpx", "transferqueue") if not getattr(found, name)]
    missing += ["vllm"] if needs_gpus and not found.vllm else []
    if missing:
        raise MissingExtra(f"engine verl: {python} lacks {', '.join(missing)}.  {here}")
    if needs_gpus and found.gpus < gpus:
        counted = f"{found.gpus} GPUs" if found.gpus else "no GPU"
        raise ConfigError(
            f"engine verl was told to train on {gpus} GPUs (trainer.gpus), and {python} counts {counted} here. verl "
            "trains and samples on GPUs only: lower trainer.gpus, run this on a machine that has them, or use "
            "engine: torch, which learns anywhere."
        )
