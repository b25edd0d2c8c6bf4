"""Personal data out of a trajectory, its sense kept: the same person is `[email_1]` wherever the trajectory names them.

Numbers count up within one trajectory, so placeholders of two trajectories say nothing about each other.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, TypeVar, cast

import msgspec

from agentlightning.data.call import Call, Reply
from agentlightning.data.personal import find_personal
from agentlightning.data.trajectory import ErrorTag, Features, Reward, Step, Trajectory

_PLACEHOLDER = re.compile(r"\[(email|phone|card|ip|iban)_(\d{1,6})\]")
_FILE = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]")
"""An image or a file, as its bytes in a URL."""
_Noun = TypeVar("_Noun", Call, Reply)


def mask(trajectory: Trajectory) -> Trajectory:
    """The trajectory with placeholders for e-mail and IP addresses, phone and card numbers and IBANs.

    All text is searched, names of fields and JSON inside strings too; ids (rollout, run, task, agent) stay: records
    find each other by them. Text that was JSON stays JSON. Token ids and logprobs of a step whose text changed are
    dropped: they would spell it out. Pure and idempotent; placeholders already there keep their numbers.
    """
    return Masker().trajectory(trajectory)


class Masker:
    """Masks the parts of one trajectory, or of whatever else belongs together, with the same names for the same things.

    For parts that come one by one, `heed` first, so that no new name is one that already stands there.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._last: Counter[str] = Counter()

    def heed(self, part: Any) -> None:
        """Take no names that stand in a part already."""
        for kind, number in _PLACEHOLDER.findall(msgspec.json.encode(part).decode()):
            self._last[kind] = max(self._last[kind], int(number))

    def trajectory(self, trajectory: Trajectory) -> Trajectory:
        self.heed(trajectory)
        return msgspec.structs.replace(
            trajectory,
            input=self.value(trajectory.input),
            steps=[self.step(step) for step in trajectory.steps],
            output=self.value(trajectory.output),
            expected=self.value(trajectory.expected),
            metadata=self.value(trajectory.metadata),
            error=self.value(trajectory.error),
            rewards=[self.reward(reward) for reward in trajectory.rewards],
            features=self.features(trajectory.features),
        )

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return self._mapping(cast(dict[str, Any], value))
        if isinstance(value, list):
            return [self.value(item) for item in cast(list[Any], value)]
        if isinstance(value, int) and not isinstance(value, bool):
            masked = self._prose(str(value))
            return value if masked == str(value) else masked
        return value

    def step(self, step: Step) -> Step:
        call, reply = self._noun(step.call), self._noun(step.reply)
        masked = msgspec.structs.replace(
            step,
            call=call,
            reply=reply,
            arguments=self.value(step.arguments),
            result=self.value(step.result),
            error=self.value(step.error),
            endpoint=self.value(step.endpoint),
        )
        if call == step.call and reply == step.reply:
            return masked
        bare = reply and msgspec.structs.replace(reply, prompt_ids=None, completion_ids=None, logprobs=None)
        return msgspec.structs.replace(masked, reply=bare, prompt_ids=None, completion_ids=None, logprobs=None)

    def reward(self, reward: Reward) -> Reward:
        return msgspec.structs.replace(reward, reason=self.value(reward.reason))

    def features(self, features: Features | None) -> Features | None:
        if features is None:
            return None
        tags = [ErrorTag(tag.name, tag.step, self.value(tag.evidence)) for tag in features.error_tags]
        return msgspec.structs.replace(features, error_tags=tags)

    def _noun(self, noun: _Noun | None) -> _Noun | None:
        if noun is None:
            return None
        names = ("messages", "tools", "params") if isinstance(noun, Call) else ("message", "alternatives")
        return msgspec.structs.replace(noun, **{name: self.value(getattr(noun, name)) for name in names})

    def _mapping(self, mapping: dict[str, Any]) -> dict[str, Any]:
        masked: dict[str, Any] = {}
        for key, item in mapping.items():
            name = self._text(key)
            while name in masked:  # two spellings of one address: both entries stay
                name += "'"
            masked[name] = self.value(item)
        return masked

    def _text(self, text: str) -> str:
        if _FILE.match(text):
            return text
        content = _json_container(text)
        if content is None:
            return self._prose(text)
        masked = self.value(content)
        return text if masked == content else json.dumps(masked, ensure_ascii="\\u" in text)

    def _prose(self, text: str) -> str:
        while found := find_personal(text):  # taking one away can uncover another; each round leaves less
            parts: list[str] = []
            end = 0
            for item in found:
                parts += (text[end : item.start], self._name(item.kind, item.value))
                end = item.end
            text = "".join([*parts, text[end:]])
        return text

    def _name(self, kind: str, value: str) -> str:
        if (kind, value) not in self._names:
            self._last[kind] += 1
            self._names[kind, value] = f"[{kind}_{self._last[kind]}]"
        return self._names[kind, value]


def _json_container(text: str) -> Any:
    """The mapping or list that a text spells, else None."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
