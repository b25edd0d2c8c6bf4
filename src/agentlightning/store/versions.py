"""Records of other releases: older ones read as they are, newer ones as far as they are known, and nothing is lost.

What a newer release added to a body is unknown here. Reading a noun leaves it aside and says so; writing the noun back
(`rewritten`) keeps it.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import msgspec

from agentlightning.data.record import SCHEMA_VERSION, Record
from agentlightning.errors import DataError

_Noun = TypeVar("_Noun")


class NewerRecordWarning(UserWarning):
    """A record was written by a newer release, and read as far as this one knows it."""


def read_noun(record: Record, noun: type[_Noun]) -> _Noun:
    """The record's body as `noun`. DataError when it does not read as one; a warning when a newer release wrote it."""
    is_newer = record.version > SCHEMA_VERSION
    try:
        found = msgspec.convert(record.body, noun)
    except msgspec.ValidationError as error:
        raise DataError(
            f"{record.kind} {record.id!r} in the store does not read as a {noun.__name__}: {error}. "
            + (
                f"A newer release wrote it (record version {record.version}, this one knows {SCHEMA_VERSION}). "
                "Upgrade:  pip install -U agentlightning"
                if is_newer
                else f"Whoever wrote it should pass a {noun.__name__} to make_record()."
            )
        ) from error
    if is_newer:
        _say_newer(record, noun)
    return found


def rewritten(record: Record, noun: msgspec.Struct, *, without: tuple[str, ...] = ()) -> Record:
    """The record with the noun's fields in its body; fields only a newer release knows stay, and so does its version.

    Fields at their defaults are written out. `without` names fields of the noun that do not belong in this body.
    """
    names = [name for name in noun.__struct_fields__ if name not in without]
    body: dict[str, Any] = msgspec.to_builtins({name: getattr(noun, name) for name in names})
    return msgspec.structs.replace(record, body={**record.body, **body})


def unknown_fields(record: Record, noun: type[Any]) -> list[str]:
    """Names in a record's body that this release's noun does not have."""
    return sorted(set(record.body) - set(noun.__struct_fields__))


def _say_newer(record: Record, noun: type[Any]) -> None:
    unknown = ", ".join(unknown_fields(record, noun)) or "nothing"
    warnings.warn(
        f"{record.kind} {record.id!r} was written by a newer release (record version {record.version}, this one knows "
        f"{SCHEMA_VERSION}). Left aside: {unknown}. To see all of it:  pip install -U agentlightning",
        NewerRecordWarning,
        stacklevel=3,
    )
