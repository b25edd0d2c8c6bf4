"""A trajectory as it came becomes one that can be kept and learned from: clean text, no secrets, features read out.

Everything here is pure, and doing it twice changes nothing, so the processor can run again over what it has done.
"""

from __future__ import annotations

import dataclasses
import math
from enum import Enum
from typing import Any, TypeVar, cast

import msgspec
from pydantic import BaseModel

from agentlightning.data.call import Call, Reply
from agentlightning.data.features import features
from agentlightning.data.redaction import SECRET, names_secret, redact
from agentlightning.data.trajectory import Reward, Step, Trajectory

__all__ = ["clean", "clean_step", "features", "process", "without_secrets"]

_Noun = TypeVar("_Noun", Call, Reply)


def process(trajectory: Trajectory, *, has_clean_steps: bool = False) -> Trajectory:
    """The trajectory cleaned, with its features. `has_clean_steps`: they were cleaned one by one, as they happened."""
    cleaned = clean(trajectory, has_clean_steps=has_clean_steps)
    return msgspec.structs.replace(cleaned, features=features(cleaned))


def clean(trajectory: Trajectory, *, has_clean_steps: bool = False) -> Trajectory:
    """The same trajectory with only JSON in it and without secrets; an output of only white space becomes None."""
    safe = without_secrets(trajectory, has_clean_steps=has_clean_steps)
    is_blank = isinstance(safe.output, str) and not safe.output.strip()
    return msgspec.structs.replace(safe, output=None) if is_blank else safe


def without_secrets(trajectory: Trajectory, *, has_clean_steps: bool = False) -> Trajectory:
    """The same trajectory with only JSON in it and without secrets, and otherwise to the letter.

    What JSON cannot hold becomes JSON where it has fields (pydantic, dataclass, struct) and text where it has not.
    Keys, tokens and authorization values become `[secret]` in input, output, expected, metadata, errors, reasons and
    steps. Token ids and logprobs of a step whose text changed are dropped: they would spell the secret out.
    """
    return msgspec.structs.replace(
        trajectory,
        input=_plain(trajectory.input),
        output=_plain(trajectory.output),
        expected=_plain(trajectory.expected),
        metadata=_plain(trajectory.metadata),
        error=_optional_text(trajectory.error),
        rewards=[_clean_reward(reward) for reward in trajectory.rewards],
        steps=trajectory.steps if has_clean_steps else [clean_step(step) for step in trajectory.steps],
    )


def _clean_reward(reward: Reward) -> Reward:
    return msgspec.structs.replace(reward, reason=_optional_text(reward.reason))


def clean_step(step: Step) -> Step:
    """One step, cleaned as `clean` does it: for whoever writes steps as they happen."""
    call, reply = _clean_noun(step.call), _clean_noun(step.reply)
    cleaned = msgspec.structs.replace(
        step,
        call=call,
        reply=reply,
        arguments=_plain(step.arguments),
        result=_plain(step.result),
        error=_optional_text(step.error),
        endpoint=_optional_text(step.endpoint),
    )
    if call == step.call and reply == step.reply:
        return cleaned
    bare = reply and msgspec.structs.replace(reply, prompt_ids=None, completion_ids=None, logprobs=None)
    return msgspec.structs.replace(cleaned, reply=bare, prompt_ids=None, completion_ids=None, logprobs=None)


def _clean_noun(noun: _Noun | None) -> _Noun | None:
    if noun is None:
        return None
    if isinstance(noun, Call):
        parts = {name: _plain(getattr(noun, name)) for name in ("messages", "tools", "params")}
    else:
        parts = {"message": _plain(noun.message), "alternatives": _plain(noun.alternatives)}
    return msgspec.structs.replace(noun, **parts)


def _plain(value: Any, parents: frozenset[int] = frozenset()) -> Any:
    """The value in JSON's terms, redacted. A container inside itself is written as text."""
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is dict or kind is list:
        return _plain_container(value, parents)
    if value is None or kind is bool or kind is int:
        return value
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bytes | bytearray):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return _text(str(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    return _plain_container(value, parents)


def _plain_container(value: Any, parents: frozenset[int]) -> Any:
    fields = _fields(value)
    if fields is None or id(value) in parents:
        return _text(str(value))
    parents |= {id(value)}
    if isinstance(fields, list):
        return [_plain(item, parents) for item in fields]
    return {_text(str(key)): _member(str(key), item, parents) for key, item in fields.items()}


def _member(key: str, value: Any, parents: frozenset[int]) -> Any:
    plain = _plain(value, parents)
    is_credential = isinstance(plain, str) and plain.strip() and names_secret(key)
    return SECRET if is_credential else plain


def _fields(value: Any) -> dict[Any, Any] | list[Any] | None:
    """What a container holds; None when it is none we can look into."""
    if isinstance(value, dict):
        return cast(dict[Any, Any], value)
    if isinstance(value, list | tuple):
        return list(cast(list[Any], value))
    if isinstance(value, set | frozenset):
        return sorted(cast(set[Any], value), key=str)
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields} | (value.model_extra or {})
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _optional_text(text: str | None) -> str | None:
    return None if text is None else _text(text)


def _text(text: str) -> str:
    """Redacted, and with lone surrogates (which UTF-8, and so JSON, cannot hold) as question marks."""
    return redact(text if text.isascii() else text.encode(errors="replace").decode())
