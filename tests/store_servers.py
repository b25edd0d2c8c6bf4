"""Real servers for the store's tests, each started once and only when a test asks, and stopped when the tests end.

    postgres()   our own throw-away cluster (AGENTLIGHTNING_TEST_POSTGRES names another server)
    s3()         moto
    azure()      Azurite, from .venvs/azurite (`make store-servers` puts it there)

What cannot be started skips the test with the reason, or fails it where AGENTLIGHTNING_EXPECT_STORES=1.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import datetime
import hashlib
import hmac
import importlib.util
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, NoReturn
from urllib.parse import quote

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]
AZURITE = ROOT / ".venvs" / "azurite" / "node_modules" / ".bin" / "azurite-blob"


class Place(NamedTuple):
    """Where a store can be opened, and the environment that lets it."""

    address: str
    environment: Mapping[str, str] = MappingProxyType({})


def unavailable(reason: str) -> NoReturn:
    """Skip, unless the stores are expected to be there."""
    if os.environ.get("AGENTLIGHTNING_EXPECT_STORES"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"{what} did not start on port {port} (exit code {process.wait()})")


def started(command: list[str], port: int, what: str) -> subprocess.Popen[bytes]:
    """A server in a process of its own, until the tests end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop() -> None:
        process.terminate()
        process.wait(20)

    atexit.register(stop)
    wait_for(port, process, what)
    return process


# ── PostgreSQL ──


class Cluster:
    """A PostgreSQL server of our own, in a temporary folder."""

    def __init__(self, binaries: Path, *, flushes: bool) -> None:
        self._binaries = binaries
        self._fsync = "on" if flushes else "off"
        self._folder = Path(tempfile.mkdtemp(prefix="agentlightning-postgres-"))
        self.port = free_port()
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        options = "-A trust -U postgres -E UTF8 --locale=C --no-sync".split()
        self._run("initdb", "-D", f"{self._folder}/data", *options)
        rules = self._folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all with_password 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self.start()
        atexit.register(self._remove)

    def start(self) -> None:
        # Our own child and no daemon (as pg_ctl would make it): it ends with us also when we are killed as a group.
        settings = ["-p", str(self.port), "-k", str(self._folder), "-c", "listen_addresses=127.0.0.1"]
        command = [*self._as_user, str(self._binaries / "postgres"), "-D", f"{self._folder}/data", *settings]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([*command, "-c", f"fsync={self._fsync}"], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while "ready to accept connections" not in (said := (self._folder / "log").read_text()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{said}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: at once, but orderly; SIGQUIT: as in a crash."""
        self._process.send_signal(how)
        self._process.wait(30)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def socket_url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._folder), safe='')}&port={self.port}"

    def _remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._binaries / program), *arguments]
        done = subprocess.run(command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr)


@cache
def cluster(*, flushes: bool = False) -> Cluster | None:
    """Our own server; None where no PostgreSQL is installed. `flushes`: commits wait for the disk, as on a real one."""
    in_path = shutil.which("initdb")
    folders = [Path(in_path).parent] if in_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = next((f for f in folders if all((f / p).exists() for p in ("initdb", "postgres"))), None)
    return Cluster(found, flushes=flushes) if found else None


def own_cluster(*, flushes: bool = False) -> Cluster:
    """For tests that stop and start the server, or make users."""
    return cluster(flushes=flushes) or unavailable("PostgreSQL's initdb and postgres are not installed")


def postgres() -> Place:
    """An empty schema."""
    if importlib.util.find_spec("psycopg") is None:
        unavailable("the psycopg package is not installed")
    if url := os.environ.get("AGENTLIGHTNING_TEST_POSTGRES"):
        place = empty_schema(url)
        atexit.register(_drop_schema, url, place.address.rpartition("=")[2])
        return place
    return empty_schema(own_cluster().url())


def empty_schema(url: str) -> Place:
    """A schema on a server that no other test has."""
    return Place(f"{url}{'&' if '?' in url else '?'}schema=test_{uuid.uuid4().hex[:12]}")


def _drop_schema(url: str, schema: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


# ── S3 ──


@cache
def moto() -> str:
    """The endpoint of an S3 server with a bucket `test`."""
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("obstore") is None:
        unavailable("the moto or the obstore package is not installed")
    port = free_port()
    started([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, "moto")
    httpx.put(f"http://127.0.0.1:{port}/test").raise_for_status()
    return f"http://127.0.0.1:{port}"


def s3() -> Place:
    """An empty prefix."""
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
    return Place(f"s3://test/{uuid.uuid4().hex[:12]}?endpoint={moto()}", keys)


@cache
def google() -> str:
    """The endpoint of a server that speaks what obstore's Google client says, with a bucket `test`."""
    from tests.store_proxy import Proxy

    running = Proxy(moto())
    atexit.register(running.close)
    return running.url


def google_key() -> dict[str, str]:
    """A service account's key that asks nobody for a token."""
    fields = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(fields)}


def gcs() -> Place:
    """An empty prefix."""
    return Place(f"gs://test/{uuid.uuid4().hex[:12]}?endpoint={google()}", google_key())


# ── Azure ──

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's published development key: it is the same everywhere, and no secret."""


@cache
def azurite() -> str:
    """The endpoint of a blob server with a container `test`."""
    if importlib.util.find_spec("obstore") is None:
        unavailable("the obstore package is not installed")
    if not AZURITE.exists():
        unavailable("Azurite is not installed: `make store-servers` (needs npm)")
    folder, port = tempfile.mkdtemp(prefix="agentlightning-azurite-"), free_port()
    atexit.register(shutil.rmtree, folder)
    options = ["--blobPort", str(port), "--location", folder, "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    started([str(AZURITE), *options], port, "Azurite")
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    made = httpx.put(f"{endpoint}/test?restype=container&{sas('c', datetime.timedelta(hours=1))}")
    made.raise_for_status()
    return endpoint


def azure() -> Place:
    """An empty prefix."""
    keys = {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}
    return Place(f"az://test/{uuid.uuid4().hex[:12]}?endpoint={azurite()}", keys)


def sas(permissions: str, lifetime: datetime.timedelta) -> str:
    """A signed query for the account: `r` read, `l` list, `c` create, `w` write; a negative lifetime has expired."""
    end = (datetime.datetime.now(datetime.UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
    version, services, resources, protocol = "2020-08-04", "b", "sco", "https,http"
    signed = "\n".join([ACCOUNT, permissions, services, resources, "", end, "", protocol, version, ""])
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
    return (
        f"sv={version}&ss={services}&srt={resources}&sp={permissions}&se={quote(end)}&spr={quote(protocol)}"
        f"&sig={quote(signature, safe='')}"
    )


# ── a network that fails ──


class Wire:
    """A TCP connection to a server that can be cut: `with Wire(port) as wire` listens on `wire.port`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._cuts: list[tuple[bytes, bool]] = []
        self._ends: set[socket.socket] = set()
        self.num_cut = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self, word: bytes, *, is_delivered: bool) -> None:
        """Cut the next connection in which a client says `word`: once the server has answered, or before it hears."""
        self._cuts.append((word, is_delivered))

    def cut_all(self) -> None:
        """Cut every connection there is now."""
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut_all()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                thread = threading.Thread(target=self._carry, args=[client, server], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        self._ends |= {client, server}
        with client, server, contextlib.suppress(OSError):
            is_open = True
            while is_open:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    is_open = bool(data) and self._pass_on(data, end is client, client, server)
                    if not is_open:
                        break
        self._ends -= {client, server}

    def _pass_on(self, data: bytes, is_from_client: bool, client: socket.socket, server: socket.socket) -> bool:
        if not is_from_client:
            client.sendall(data)
            return True
        found = next((cut for cut in self._cuts if cut[0] in data), None)
        if found is None:
            server.sendall(data)
            return True
        self._cuts.remove(found)
        self.num_cut += 1
        if found[1]:
            server.sendall(data)
            server.recv(1)
        return False
