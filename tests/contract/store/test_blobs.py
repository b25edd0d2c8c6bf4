"""What every store promises about blobs: the same bytes back, or an error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from agentlightning.errors import StoreError
from agentlightning.store.base import BlobRef, Store


async def content(store: Store, ref: BlobRef) -> bytes:
    return b"".join([chunk async for chunk in store.get_blob(ref)])


def test_a_blob_given_in_chunks_comes_back_whole(store: Store) -> None:
    def chunks() -> Iterator[bytes]:
        for n in range(50):
            yield bytes([n]) * 70_001

    async def scenario() -> None:
        whole = b"".join(chunks())
        ref = await store.put_blob(chunks())
        assert ref == BlobRef(hashlib.sha256(whole).hexdigest(), len(whole))
        assert await content(store, ref) == whole
        assert len([chunk async for chunk in store.get_blob(ref)]) > 1

    asyncio.run(scenario())


def test_the_same_content_is_the_same_blob(store: Store) -> None:
    async def scenario() -> None:
        first, second = await asyncio.gather(store.put_blob(b"weights"), store.put_blob([b"wei", b"", b"ghts"]))
        assert first == second
        assert await content(store, first) == b"weights"

    asyncio.run(scenario())


def test_every_blob_is_listed_once(store: Store) -> None:
    async def scenario() -> None:
        assert [ref async for ref in store.blobs()] == []
        refs = [await store.put_blob(content) for content in (b"a", b"", b"b" * 3_000_000, b"a")]
        listed = [ref async for ref in store.blobs()]
        assert sorted(listed, key=str) == sorted(set(refs), key=str)

    asyncio.run(scenario())


def test_a_reader_who_leaves_a_blob_halfway_harms_nobody(store: Store) -> None:
    async def scenario() -> None:
        ref = await store.put_blob(b"w" * 5_000_000)
        for _ in range(3):
            async for _ in store.get_blob(ref):
                break
        assert len(await content(store, ref)) == 5_000_000

    asyncio.run(scenario())


def test_an_empty_blob_is_a_blob(store: Store) -> None:
    async def scenario() -> None:
        assert await content(store, await store.put_blob(b"")) == b""

    asyncio.run(scenario())


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", "A" * 64])
def test_a_blob_that_is_not_there_is_an_error(store: Store, digest: str) -> None:
    with pytest.raises(StoreError, match=r"there is no blob|is no blob reference"):
        asyncio.run(content(store, BlobRef(digest, 1)))


def test_chunks_that_fail_leave_no_blob_behind(store: Store) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the model could not be saved")

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="could not be saved"):
            await store.put_blob(chunks())
        with pytest.raises(StoreError, match="there is no blob"):
            await content(store, BlobRef(hashlib.sha256(b"half").hexdigest(), 4))

    asyncio.run(scenario())
