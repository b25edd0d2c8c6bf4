"""A written conversation as a sample: which of its tokens an assistant would have sampled.

Each answer is tokenised by itself, as it would have been sampled, up to and with its end mark. Where it stands is found
by rendering: the prompt that would have asked for it is usually a beginning of the whole text; where the template
rewrites history, the whole text is rendered once more with another answer in its place, and what differs is the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from agentlightning.data.call import Message
from agentlightning.data.sample import Sample, Turn
from agentlightning.engine.torch.templates import ChatTemplate
from agentlightning.engine.torch.tool_formats import Tools
from agentlightning.errors import DataError

_OTHER = "Zw9 another answer 9wZ"


def encode(
    template: ChatTemplate,
    tokenizer: Any,
    messages: Sequence[Message],
    tools: Tools = (),
    *,
    agent: str = "",
    learned: Collection[int] | None = None,
) -> Sample:
    """See `Engine.encode`. DataError when there is no answer to learn."""
    answers = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
    trained = [place for place in answers if learned is None or place in learned]
    if not trained:
        raise DataError("the conversation has no assistant message to learn from.")
    whole = template.render(messages, tools, opens=False)
    spans = {place: _span(template, messages, tools, whole, place) for place in answers}
    pieces, end = list[tuple[list[int], int | None]](), 0
    for place, (start, stop) in sorted(spans.items()):
        pieces.append((_ids(tokenizer, whole[end:start], is_first=not end), None))
        pieces.append((_ids(tokenizer, whole[start:stop]), place if place in trained else None))
        end = stop
    return _sample(pieces, agent)


def _span(template: ChatTemplate, messages: Sequence[Message], tools: Tools, whole: str, place: int) -> tuple[int, int]:
    """From where to where the whole text is an answer, its end mark included."""
    others = list(messages)
    others[place] = {"role": "assistant", "content": _OTHER}
    other = template.render(others, tools, opens=False)
    asked = template.render(messages[:place], tools, opens=True) if place else template.opener
    start = len(asked) if whole.startswith(asked) else _num_shared(whole, other)
    tail = other.rpartition(_OTHER)[2]
    shared = _num_shared(whole[::-1], tail[::-1])
    mark = template.closer.rstrip("\n")
    stop = len(whole) - shared
    if mark and whole.startswith(mark, stop):
        stop += len(mark)
    if stop <= start:
        raise DataError(f"message {place} leaves no text of its own in the conversation, so there is nothing to learn.")
    return start, stop


def _num_shared(ours: str, theirs: str) -> int:
    """Characters that two texts begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))


def _ids(tokenizer: Any, text: str, *, is_first: bool = False) -> list[int]:
    end = tokenizer.eos_token or ""
    if is_first or not end or len(tokenizer.encode(end, add_special_tokens=False)) != 1:
        return tokenizer.encode(text, add_special_tokens=False)
    return tokenizer.encode(end + text, add_special_tokens=False)[1:]  # some tokenizers begin texts with a space


def _sample(pieces: list[tuple[list[int], int | None]], agent: str) -> Sample:
    first = next(index for index, (_, place) in enumerate(pieces) if place is not None)
    prompt = [id for ids, _ in pieces[:first] for id in ids]
    completion, mask, turns = list[int](), list[int](), list[Turn]()
    for ids, place in pieces[first:]:
        if place is not None:
            turns.append(Turn(step=len(turns), start=len(completion), end=len(completion) + len(ids)))
        completion += ids
        mask += [int(place is not None)] * len(ids)
    last = turns[-1].end
    return Sample(
        prompt_ids=prompt,
        completion_ids=completion[:last],
        mask=mask[:last],
        agent=agent,
        rollout_id="",
        segment_id=0,
        turns=turns,
    )
