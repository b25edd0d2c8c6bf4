"""A bucket, container or folder and a prefix in it: how it is addressed, reached, and what its errors mean.

    s3://bucket/prefix    az://container/prefix    gs://bucket/prefix    segments:///folder
    options: ?endpoint=http://127.0.0.1:9000  &region=…  &account=…  &damaged=skip

Credentials never stand in an address. They come from where each cloud's own tools look first, the environment and the
machine's identity, and for S3 also from profiles and SSO when boto3 is installed.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from agentlightning.errors import ConfigError, MissingExtra, StoreError, near_miss

_OPTIONS = {
    "s3": ("endpoint", "region", "damaged"),
    "az": ("endpoint", "account", "damaged"),
    "gs": ("endpoint", "damaged"),
    "segments": ("damaged",),
}
_EXTRAS = {"s3": "s3", "az": "azure", "gs": "gcs", "segments": "s3"}
_CLIENT = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10)}
_RETRY = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}

Damaged = Literal["refuse", "skip"]


class Listed(NamedTuple):
    """An object as a listing shows it; `modified` is by the service's clock."""

    name: str
    size: int
    modified: datetime


class Missing(StoreError):
    """There is no such object (but the bucket is there)."""


class Refused(StoreError):
    """Whoever was asked said no: nothing was changed."""


class Objects:
    """Bytes under names below one prefix. Blocking; used from any thread."""

    def __init__(self, address: str) -> None:
        """`address` opens it again, `place` is that without options. Nothing is asked of the service yet.

        ConfigError when the address cannot be read.
        """
        parts = urlsplit(address)
        if "@" in parts.netloc:
            raise ConfigError(
                f"a {parts.scheme}:// address holds no credentials. Set them in the environment "
                "(AWS_ACCESS_KEY_ID, AZURE_STORAGE_ACCOUNT_KEY, GOOGLE_APPLICATION_CREDENTIALS, …)."
            )
        self.scheme = parts.scheme.lower()
        options = _options(self.scheme, parts.query)
        self.damaged: Damaged = "skip" if options.get("damaged") == "skip" else "refuse"
        self._obstore: Any = _import("obstore", self.scheme)
        self._folder: Path | None = None
        if self.scheme == "segments":
            self._folder = _folder(parts.netloc, parts.path)
            self.place = f"segments:///{self._folder}"
        else:
            if not parts.netloc:
                raise ConfigError(f"{address!r} names no bucket. Write {self.scheme}://bucket/prefix.")
            self.place = f"{self.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.address = f"{self.place}?{parts.query}" if parts.query else self.place
        with self.explained("opened"):
            self._store = self._open(parts.netloc, parts.path.strip("/"), options)

    @property
    def is_local(self) -> bool:
        return self._folder is not None

    def create(self, name: str, content: bytes) -> bool:
        """Write a new object, whole or not at all. False, and nothing is changed, when the name is taken."""
        try:
            with self.explained(f"written ({name})"):
                self._obstore.put(self._store, name, content, mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, name: str, file: Any) -> None:
        """Write the rest of a file, in parts when it is long; an object of that name is replaced in one instant."""
        with self.explained(f"written ({name})"):
            self._obstore.put(self._store, name, file)

    def get(self, name: str) -> bytes:
        """The content. `Missing` when there is none."""
        with self.explained(f"read ({name})"):
            return bytes(self._obstore.get(self._store, name).bytes())

    def stream(self, name: str, chunk_bytes: int) -> Generator[bytes]:
        """The content in chunks. `Missing` when there is none."""
        with self.explained(f"read ({name})"):
            for chunk in self._obstore.get(self._store, name).stream(min_chunk_size=chunk_bytes):
                yield bytes(chunk)

    def delete(self, name: str) -> None:
        """Take an object away, if it is there."""
        try:
            with self.explained(f"cleared ({name})"):
                self._obstore.delete(self._store, name)
        except Missing:
            pass

    def list(self, folder: str, after: str = "") -> list[Listed]:
        """The objects in a folder whose names come after one, in order. A folder that is not there has none."""
        with self.explained(f"read ({folder})"):
            pages = self._obstore.list(self._store, folder, offset=after or None)
            found = [Listed(m["path"], m["size"], m["last_modified"]) for page in pages for m in page]
        return sorted(one for one in found if one.name > after)  # Azurite ignores the offset; a folder has no order

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder, up to the last that holds an object.

        A process killed between making a folder and writing into it leaves an empty one, which no service has.
        """
        with self.explained(f"read ({folder})"):
            found = sorted(self._obstore.list_with_delimiter(self._store, folder)["common_prefixes"])
        while self._folder is not None and found and not self.list(found[-1]):
            found.pop()
        return found

    def flush(self, name: str) -> None:
        """Force a local object to the disk; a service has done so by itself."""
        if self._folder is None:
            return
        for path in (self._folder / name, *(self._folder / name).parents):
            if path == self._folder.parent:
                return
            with self.explained(f"flushed ({name})"):
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    @contextmanager
    def explained(self, action: str) -> Generator[None]:
        """Turn the library's errors inside the block into ours; a name that is taken stays FileExistsError."""
        errors = self._obstore.exceptions
        try:
            yield
        except errors.AlreadyExistsError as error:
            raise FileExistsError(str(error)) from error
        except (errors.BaseError, OSError) as error:
            if isinstance(error, StoreError):
                raise
            kind, remedy = _meaning(error)
            raise kind(f"store {self.place} could not be {action}: {_said(error)}. {remedy}") from error

    def _open(self, bucket: str, prefix: str, options: dict[str, str]) -> Any:
        stores: Any = _import("obstore.store", self.scheme)
        if self._folder is not None:
            return stores.LocalStore(self._folder, mkdir=True)
        settings = {"prefix": prefix or None, "client_options": _client(options), "retry_config": _RETRY}
        if self.scheme == "s3":
            given = {key: options[key] for key in ("endpoint", "region") if key in options}
            return stores.S3Store(bucket, **settings, **given, credential_provider=_aws_profile())
        if self.scheme == "az":
            names = {"endpoint": "endpoint", "account": "account_name"}
            return stores.AzureStore(bucket, **settings, **{names[k]: v for k, v in options.items() if k in names})
        given = {"base_url": options["endpoint"]} if "endpoint" in options else {}
        return stores.GCSStore(bucket, **settings, **given)


def _options(scheme: str, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query))
    known = _OPTIONS[scheme]
    for name in options:
        if name not in known:
            raise ConfigError(
                f"a {scheme}:// address has no option {name!r}.{near_miss(name, known)} Known: {', '.join(known)}."
            )
    if options.get("damaged", "refuse") not in ("refuse", "skip"):
        raise ConfigError(f"damaged={options['damaged']!r}: expected refuse (an error, the default) or skip.")
    return options


def _folder(netloc: str, path: str) -> Path:
    """`segments:///runs` is relative and `segments:////runs` absolute, as in sqlite:/// addresses."""
    name = path.removeprefix("/")
    if netloc or not name:
        raise ConfigError("write segments:///folder, with three slashes (four for an absolute path).")
    return Path(name).expanduser().resolve()


def _client(options: dict[str, str]) -> dict[str, Any]:
    names = (
        *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        *("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "GOOGLE_BASE_URL"),
    )
    endpoints = [options.get("endpoint", ""), *(os.environ.get(name, "") for name in names)]
    return {**_CLIENT, "allow_http": any(endpoint.startswith("http://") for endpoint in endpoints)}


def _aws_profile() -> Any:
    """Credentials from boto3's chain (profiles, SSO, …); None where the environment has them, or there is no boto3."""
    by_itself = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in by_itself):
        return None
    try:
        provider = importlib.import_module("obstore.auth.boto3").Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return provider()
    except ValueError:  # boto3 found none either; the machine's identity is asked by obstore
        return None


def _import(module: str, scheme: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"a store at {scheme}:// needs the obstore package:  pip install 'agentlightning[{_EXTRAS[scheme]}]'"
        ) from error


_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_NOT_ALLOWED = re.compile(r"status code: 40[13]\b|(ExpiredToken|InvalidToken|RequestExpired|TokenRefreshRequired)\b")
"""Listings are refused as errors of no kind, and an expired S3 token with a status (400) that says nothing."""
_NOT_WRITABLE = re.compile(r"os error (13|30)\b")
_CODE = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)(?:\n.*?)?</Message>", re.DOTALL)


def _said(error: Exception) -> str:
    """What the service said, without the request's dump."""
    text = str(error).partition("\n\nDebug source")[0].strip()
    if found := _CODE.search(text):
        return f"{found[1]}: {found[2].strip().rstrip('.')}"
    return text.partition("\n")[0].rstrip(".")


def _meaning(error: Exception) -> tuple[type[StoreError], str]:
    """What kind of error it is, and what to do about it."""
    name, text = type(error).__name__, str(error)
    if _NOT_WRITABLE.search(text):
        return Refused, "Make the folder writable for this user, or choose another store address."
    if name in ("PermissionDeniedError", "UnauthenticatedError") or _NOT_ALLOWED.search(text):
        return Refused, "Check the credentials: have they expired, and do they allow reading, listing and writing?"
    if "os error 28" in text:
        return Refused, "The disk is full. Free some space and try again."
    if _NO_BUCKET.search(text):
        return Refused, "Create the bucket or container first, or correct the address."
    if isinstance(error, FileNotFoundError):
        return Missing, "Was something deleted from the store?"
    return StoreError, "Check the network, the endpoint and the region, and try again."
