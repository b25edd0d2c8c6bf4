"""Blobs as files: named by content, never half there, checked when read."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentlightning.errors import StoreError
from agentlightning.store.blobs import CHUNK_BYTES, BlobFolder


def test_a_blob_is_one_file_named_by_its_hash(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path)
    ref = blobs.put(b"weights")
    blobs.put(b"weights")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / ref.sha256[:2] / ref.sha256]


@pytest.mark.parametrize("damage", [b"weightz", b"weight", b"weights!", b""])
def test_a_damaged_blob_gives_not_one_wrong_byte_and_is_healed_by_putting_it_again(
    tmp_path: Path, damage: bytes
) -> None:
    blobs = BlobFolder(tmp_path)
    ref = blobs.put(b"weights")
    blobs.path(ref).write_bytes(damage)
    given: list[bytes] = []
    with pytest.raises(StoreError, match=r"is damaged: 7 bytes with that hash were expected"):
        given.extend(blobs.read(ref))
    assert given == []
    blobs.put(b"weights")
    assert b"".join(blobs.read(ref)) == b"weights"


def test_a_long_blob_is_read_in_chunks_and_its_last_one_is_held_back_until_checked(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path)
    ref = blobs.put(b"a" * (2 * CHUNK_BYTES + 5))
    assert [len(chunk) for chunk in blobs.read(ref)] == [CHUNK_BYTES, CHUNK_BYTES, 5]
    with blobs.path(ref).open("r+b") as file:
        file.write(b"b")
    chunks = blobs.read(ref)
    next(chunks)
    next(chunks)
    with pytest.raises(StoreError, match="is damaged"):
        next(chunks)


def test_a_folder_that_cannot_hold_blobs_says_so(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("")
    with pytest.raises(StoreError, match=r"blob could not be written to .*blobs.*permissions"):
        BlobFolder(tmp_path / "blobs").put(b"x")
