"""Versions of weights: never changed, named by their content, in memory up to a bound and on disk beyond it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agentlightning.engine.base import VERSION_PREFIX
from agentlightning.engine.torch.folders import whole_file
from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


class Version(msgspec.Struct, frozen=True):
    """Weights at one moment, on the CPU: tensors by name, and the settings without which they mean nothing."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    """Plain data (rank, alpha, …)."""

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def name(self) -> str:
        """`w-` and twelve hex digits of a hash over settings and tensors."""
        import torch

        digest = hashlib.sha256(msgspec.json.encode(self.settings, order="deterministic"))
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return f"{VERSION_PREFIX}{digest.hexdigest()[:12]}"


class Shelf:
    """Versions by name. The least recently used leave memory for files of `folder` (a temporary one by default)."""

    def __init__(self, *, folder: Path | None = None, max_bytes: int = 2 << 30) -> None:
        self.max_bytes = max_bytes
        self._folder = folder or Path(tempfile.mkdtemp(prefix="weights-"))
        self._leave = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True) if not folder else None
        self._in_memory: OrderedDict[str, Version] = OrderedDict()

    def put(self, version: Version) -> str:
        name = version.name()
        if name not in self._in_memory:
            self._in_memory[name] = version
            self._make_room()
        return name

    def get(self, name: str) -> Version:
        """ModelError for a name that was never put here."""
        if name not in self._in_memory:
            self._in_memory[name] = self._read(name)
            self._make_room()
        self._in_memory.move_to_end(name)
        return self._in_memory[name]

    def __contains__(self, name: object) -> bool:
        return name in self._in_memory or self._path(str(name)).is_file()

    def close(self) -> None:
        self._in_memory.clear()
        if self._leave:
            self._leave()

    def _make_room(self) -> None:
        while len(self._in_memory) > 1 and sum(v.num_bytes for v in self._in_memory.values()) > self.max_bytes:
            name, version = self._in_memory.popitem(last=False)
            if not self._path(name).is_file():
                write_version(version, self._path(name))

    def _read(self, name: str) -> Version:
        if not self._path(name).is_file():
            raise ModelError(f"weights {name!r} are not known here. Load the folder they were saved to first.")
        return read_version(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


def write_version(version: Version, path: Path) -> None:
    """One file, whole or not at all; bit for bit what `read_version` gives back."""
    from safetensors.torch import save_file

    settings = msgspec.json.encode(version.settings).decode()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in version.tensors.items()}
    with whole_file(path) as draft:
        save_file(tensors, draft, metadata={"settings": settings})


def read_version(path: Path) -> Version:
    """ModelError when the file is not one of ours, or was cut off."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            settings = msgspec.json.decode((file.metadata() or {})["settings"])
            return Version({name: file.get_tensor(name) for name in file.keys()}, settings)  # noqa: SIM118
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"{path} holds no weights of ours: {error}. Is it a file of another kind, or cut off?"
        ) from error
