"""Object storage that refuses: a message that says what to check, nothing written, and recovery without reopening."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest
from tests import store_servers as servers
from tests.store_proxy import Proxy, proxy

from agentlightning.data.record import make_record
from agentlightning.errors import StoreError
from agentlightning.store.base import Store
from agentlightning.store.open import open_store


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Iterator[Proxy]:
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path))
    with proxy(servers.moto()) as running:
        for name, value in {**servers.s3().environment, **servers.google_key()}.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture(params=["s3", "gs"])
def address(request: pytest.FixtureRequest, service: Proxy) -> str:
    prefix = uuid.uuid4().hex[:12]
    return f"{request.param}://test/{prefix}?endpoint={service.url}"


async def ids(store: Store) -> list[str]:
    return [stored.record.id async for stored in store.read()]


REFUSALS = [
    (403, "AccessDenied", "Access Denied"),
    (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    (403, "SignatureDoesNotMatch", "The request signature we calculated does not match."),
    (400, "ExpiredToken", "The provided token has expired."),
    (401, "AuthenticationRequired", "Authentication required."),
]


@pytest.mark.parametrize(("status", "code", "said"), REFUSALS, ids=[code for _, code, _ in REFUSALS])
def test_a_refusal_says_what_to_check_and_is_over_when_it_is_over(
    address: str, service: Proxy, status: int, code: str, said: str
) -> None:
    async def scenario() -> None:
        store = open_store(address)
        await store.append([make_record("log", "before", {})])
        service.refuse(status, code, said)
        began = time.monotonic()
        for work in (store.append([make_record("log", "refused", {})]), ids(store), store.put_blob(b"refused")):
            with pytest.raises(StoreError, match=f"{code}.*Check the credentials: have they expired"):
                await work
        assert time.monotonic() - began < 5, "a refusal was tried again"
        service.allow()
        await store.append([make_record("log", "after", {})])
        assert await ids(store) == ["before", "after"]
        assert [blob async for blob in store.blobs()] == []
        await store.close()

    asyncio.run(scenario())


def test_a_store_that_may_not_be_opened_says_so(address: str, service: Proxy) -> None:
    service.refuse(403, "AccessDenied", "Access Denied")
    with pytest.raises(StoreError, match=r"AccessDenied: Access Denied\. Check the credentials"):
        open_store(address)
    assert service.num_refused == 1
