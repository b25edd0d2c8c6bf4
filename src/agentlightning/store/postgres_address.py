"""A PostgreSQL address: what libpq is told, which schema is ours, and how it is shown without its password.

Everything libpq knows may stand in it or come from where libpq looks: PGHOST and the other variables, `~/.pgpass`, a
service file (`postgresql:///?service=runs`). The only word of ours is `schema=`.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from agentlightning.errors import ConfigError

DEFAULT_SCHEMA = "agentlightning"
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_SECRETS = ("password", "sslpassword")
_MASK = "***"


class PostgresAddress(NamedTuple):
    """`libpq` holds the password when the address did; `shown` never does."""

    libpq: str
    schema: str
    shown: str
    secrets: tuple[str, ...]

    def masked(self, text: object) -> str:
        """The text without the address's passwords."""
        result = str(text)
        for secret in self.secrets:
            result = result.replace(secret, _MASK)
        return result


def parse_address(address: str) -> PostgresAddress:
    """Read `postgresql://[user[:password]@][host[:port]][/database][?schema=…&…]`. ConfigError when it cannot be."""
    start, _, query = address.partition("?")
    scheme, _, rest = start.partition("://")
    authority, slash, database = rest.partition("/")
    login, at, hosts = authority.rpartition("@")
    user, colon, password = login.partition(":")
    pairs = [part.partition("=") for part in query.split("&") if part]
    if password == _MASK or any(value == _MASK for name, _, value in pairs if name in _SECRETS):
        raise ConfigError(
            f"{address}: the password is masked here. Give the address with its password, or leave it out and set "
            "PGPASSWORD, ~/.pgpass or a service file."
        )
    schema = next((value for name, _, value in pairs if name == "schema"), DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise ConfigError(f"schema {schema!r}: expected at most 40 lower-case letters, digits and _, no digit first.")
    if "@" in database and not at:
        raise ConfigError("the PostgreSQL address has an '@' behind a '/'. Write a '/' in the password as %2F.")
    ours = [pair for pair in pairs if pair[0] != "schema"]
    libpq = _join(f"{scheme}://{authority}{slash}{database}", ["".join(pair) for pair in ours])
    shown_login = f"{user}:{_MASK}" if colon else user
    shown_pairs = [f"{name}={_MASK}" if name in _SECRETS else f"{name}{sign}{value}" for name, sign, value in pairs]
    shown = _join(f"{scheme}://{shown_login}{at}{hosts}{slash}{database}", shown_pairs)
    secrets = [password, *(value for name, _, value in pairs if name in _SECRETS)]
    known = {form for secret in secrets for form in (secret, unquote(secret)) if len(form) > 2}
    return PostgresAddress(libpq, schema, shown, tuple(known))


def _join(start: str, pairs: list[str]) -> str:
    return f"{start}?{'&'.join(pairs)}" if pairs else start
