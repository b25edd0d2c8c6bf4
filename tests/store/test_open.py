"""Which address opens what."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest

from agentlightning.errors import ConfigError
from agentlightning.store.base import Store
from agentlightning.store.open import open_store


def close(store: Store) -> None:
    asyncio.run(store.close())


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("runs", "runs/store.sqlite3"),
        ("./runs", "runs/store.sqlite3"),
        ("./odd:name", "odd:name/store.sqlite3"),
        ("{here}/deep/runs", "deep/runs/store.sqlite3"),
        (Path("runs"), "runs/store.sqlite3"),
        ("sqlite:///one.db", "one.db"),
        ("sqlite:///{here}/two.db", "two.db"),
    ],
)
def test_an_address_names_a_file(
    address: str | Path, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(address.format(here=tmp_path) if isinstance(address, str) else address)
    close(store)
    assert (tmp_path / file).exists()
    monkeypatch.chdir("/")
    again = open_store(store.address)
    assert again.address == store.address
    close(again)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_memory_is_a_folder_that_goes_away_on_close() -> None:
    store = open_store("memory:")
    asyncio.run(store.put_blob(b"x"))
    assert (Path(store.address) / "blobs").is_dir()
    close(store)
    assert not Path(store.address).exists()


def test_two_memory_stores_are_two_stores() -> None:
    one, two = open_store("memory:"), open_store("memory:")
    assert one.address != two.address
    close(one)
    close(two)


def test_an_open_store_is_handed_back() -> None:
    store = open_store("memory:")
    assert open_store(store) is store
    close(store)


def test_an_unknown_scheme_is_refused_with_what_is_known_and_without_the_password() -> None:
    with pytest.raises(ConfigError) as caught:
        open_store("sqlit://user:hunter2@host/db")
    assert "begin with 'sqlit'. Did you mean 'sqlite'?" in str(caught.value)
    assert "a folder (./runs), memory:, az://, gs://, postgres://, postgresql://, s3://, segments://, sqlite://" in str(
        caught.value
    )
    assert "hunter2" not in str(caught.value)


def test_an_empty_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"address is empty. Write a folder such as \./runs"):
        open_store(" ")


def test_an_installed_package_may_add_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_store-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: other-store\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[agentlightning.store]\nother = other_store:OtherStore\n")
    (tmp_path / "other_store.py").write_text(
        "class OtherStore:\n"
        "    def __init__(self, address, *, durability):\n"
        "        self.address = f'{address} {durability}'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert open_store("other://somewhere", durability="power").address == "other://somewhere power"
