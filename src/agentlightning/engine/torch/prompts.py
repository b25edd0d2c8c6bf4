"""The token ids of a call. What was sampled is never tokenised again: the ids of an unchanged history are kept.

A turn is remembered under its conversation so far. When a later call continues it, the prompt is the turn's own ids and
then the *bridge*: what the template writes between that answer and the next one. Two things end this, and then the
whole text is tokenised and a new segment begins:

- the template writes the history otherwise than it was sampled (Qwen 3 drops earlier reasoning, Mistral moves the tools
  to the last question): counted in `num_rewritten`;
- the agent changed what was said: that is simply another conversation.

Spacing is no change: an answer that reads back as the same content, reasoning and tool calls is the same answer. SDKs
drop the reasoning of an answer; it is put back before the template decides whether the model sees it again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from agentlightning.data.call import Call, Message, message_text
from agentlightning.engine.torch.templates import ChatTemplate
from agentlightning.engine.torch.tool_formats import Said, ToolFormat, Tools
from agentlightning.engine.torch.tool_formats.base import function_of, read_object
from agentlightning.engine.torch.wishes import Wishes

K = TypeVar("K")
V = TypeVar("V")
_MAX_ROLLOUTS = 4096
_MAX_TEXTS = 256


class Prompt(msgspec.Struct, frozen=True):
    """What a call's answer follows."""

    ids: list[int]
    text: str
    """As the template writes it."""
    forced: str
    """The beginning of the answer that was set, and so is no part of what is sampled."""
    keys: list[bytes]
    """Of the conversation after each message."""
    num_reused: int = 0
    """Ids taken over from an earlier turn."""
    is_rewritten: bool = False
    """The template wrote a known history otherwise than it was sampled."""


class _Turn(msgspec.Struct, frozen=True):
    ids: list[int]
    """Prompt and completion."""
    before: str
    """The template's text up to the answer, without its opener."""
    text: str
    """The answer as it was written, without its end mark."""
    said: Said


class Prompts:
    """One tokenizer's prompts, with what each rollout said so far. For one thread."""

    def __init__(self, tokenizer: Any, template: ChatTemplate, format: ToolFormat) -> None:
        self.num_rewritten = 0
        self.num_continued = 0
        self._tokenizer = tokenizer
        self._template = template
        self._format = format
        self._rollouts: OrderedDict[str, dict[bytes, _Turn]] = OrderedDict()
        self._texts: Recent[str, list[int]] = Recent(_MAX_TEXTS)
        self._renders: Recent[bytes, str] = Recent(_MAX_TEXTS)
        self._anchor = _anchor(tokenizer)

    def make(self, call: Call, wishes: Wishes, rollout_id: str = "") -> Prompt:
        """ModelError when the template refuses the messages."""
        keys = _keys(call.messages, wishes.tools, wishes.template_options)
        forced = self._format.opening(wishes.only_tool) if wishes.must_call else ""
        messages, place, turn = self._recalled(call.messages, keys, rollout_id)
        text = self._render(messages, wishes, opens=True)
        bridge = self._bridge(turn, messages, place, wishes, text) if turn else None
        opening = self._encode_after(forced) if forced else []
        if turn and bridge is not None:
            self.num_continued += 1
            ids = [*turn.ids, *self._bridge_ids(bridge, turn.ids[-1]), *opening]
            return Prompt(ids, text, forced, keys, num_reused=len(turn.ids))
        self.num_rewritten += turn is not None
        return Prompt([*self._encode(text), *opening], text, forced, keys, is_rewritten=turn is not None)

    def remember(
        self, prompt: Prompt, rollout_id: str, *, completion_ids: list[int], text: str, said: Said, reply: Message
    ) -> None:
        """The rollout may go on from this answer."""
        if not rollout_id or not completion_ids:
            return
        turns = self._rollouts.setdefault(rollout_id, {})
        self._rollouts.move_to_end(rollout_id)
        before = prompt.text.removesuffix(self._template.opener)
        turns[_next_key(prompt.keys[-1], reply)] = _Turn(prompt.ids + completion_ids, before, text, said)
        while len(self._rollouts) > _MAX_ROLLOUTS:
            self._rollouts.popitem(last=False)

    def forget(self, rollout_id: str) -> None:
        self._rollouts.pop(rollout_id, None)

    def _recalled(
        self, messages: Sequence[Message], keys: list[bytes], rollout_id: str
    ) -> tuple[list[Message], int, _Turn | None]:
        """The messages with known answers as they were given, and the place and turn of the last known one."""
        turns, recalled = self._rollouts.get(rollout_id), list(messages)
        place, last = -1, None
        for index, key in enumerate(keys[:-1]) if turns else ():
            if turns and (turn := turns.get(key)):
                recalled[index] = _with_reasoning(messages[index], turn.said)
                place, last = index, turn
        return recalled, place, last

    def _bridge(self, turn: _Turn, messages: list[Message], place: int, wishes: Wishes, text: str) -> str | None:
        """The text from the end of the turn's answer on; None when the template rewrites what came before."""
        as_written = turn.before + self._template.opener + turn.text + self._template.closer
        if text.startswith(as_written):
            return self._template.closer + text[len(as_written) :]
        history = self._render(messages[: place + 1], wishes, opens=False)
        closer = self._template.closer
        if not text.startswith(history) or not history.startswith(turn.before) or not history.endswith(closer):
            return None
        told = history[len(turn.before) : len(history) - len(closer)]
        opener = self._template.opener
        shared = next(
            (i for i, (a, b) in enumerate(zip(opener, told, strict=False)) if a != b), min(len(opener), len(told))
        )
        if not _is_same(self._format.read(told[shared:], wishes.tools), turn.said):
            return None
        return closer + text[len(history) :]

    def _bridge_ids(self, bridge: str, last_id: int) -> list[int]:
        """The end mark that an answer was sampled with is not written twice."""
        ids = self._encode_after(bridge)
        return ids[1:] if ids and ids[0] == last_id else ids

    def _render(self, messages: Sequence[Message], wishes: Wishes, *, opens: bool) -> str:
        """Remembered: the rollouts of a group begin with the same messages."""
        options = wishes.template_options
        asked = msgspec.json.encode([list(messages), list(wishes.tools), dict(options), opens])
        return self._renders.get(
            asked, lambda: self._template.render(messages, wishes.tools, opens=opens, options=options)
        )

    def _encode(self, text: str) -> list[int]:
        return self._texts.get(text, lambda: self._tokenizer.encode(text, add_special_tokens=False))

    def _encode_after(self, text: str) -> list[int]:
        """Ids of text in the middle of something: some tokenizers put a space before what they take for a beginning."""
        return self._tokenizer.encode(self._anchor + text, add_special_tokens=False)[bool(self._anchor) :]


class Recent(Generic[K, V]):
    """The last few answers to the same question."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K, make: Callable[[], V]) -> V:
        if key not in self._known:
            self._known[key] = make()
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def _anchor(tokenizer: Any) -> str:
    """A text that is one token whatever follows it."""
    end = tokenizer.eos_token or ""
    return end if end and len(tokenizer.encode(end, add_special_tokens=False)) == 1 else ""


def _keys(messages: Sequence[Message], tools: Tools, options: Mapping[str, Any]) -> list[bytes]:
    """A name of the conversation after each message, whatever ids its tool calls have."""
    key = hashlib.blake2b(msgspec.json.encode([list(tools), dict(options)], order="sorted"), digest_size=16).digest()
    keys = list[bytes]()
    for message in messages:
        key = _next_key(key, message)
        keys.append(key)
    return keys


def _next_key(key: bytes, message: Message) -> bytes:
    calls = [_call(function_of(call)) for call in message.get("tool_calls") or ()]
    said = [message.get("role"), _text(message).strip(), calls]
    return hashlib.blake2b(key + msgspec.json.encode(said, order="sorted"), digest_size=16).digest()


def _text(message: Message) -> str:
    """Parts that are no text count too: a conversation with another image is another conversation."""
    content: Any = message.get("content")
    if isinstance(content, list) and any(isinstance(part, dict) and "text" not in part for part in content):
        return msgspec.json.encode(content).decode()
    return message_text(message)


def _call(function: Mapping[str, Any]) -> list[Any]:
    given = function.get("arguments")
    return [function.get("name"), read_object(given) if isinstance(given, str) else given]


def _with_reasoning(message: Message, said: Said) -> Message:
    if not said.reasoning or message.get("reasoning_content"):
        return message
    return message | {"reasoning_content": said.reasoning}


def _is_same(told: Said, said: Said) -> bool:
    return (
        told.content.strip() == said.content.strip()
        and told.reasoning.strip() == said.reasoning.strip()
        and told.tool_calls == said.tool_calls
    )
