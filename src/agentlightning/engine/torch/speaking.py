"""Between calls and rows: a call becomes a prompt and rows to sample, sampled rows become a reply."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any

import msgspec

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.sample import Sample
from agentlightning.engine.torch import conversations, tool_formats
from agentlightning.engine.torch.answers import Reader
from agentlightning.engine.torch.loading import Loaded
from agentlightning.engine.torch.prompts import Prompt, Prompts
from agentlightning.engine.torch.row import Row
from agentlightning.engine.torch.templates import ChatTemplate
from agentlightning.engine.torch.tool_formats import Tools
from agentlightning.engine.torch.wishes import Wishes, wishes_of
from agentlightning.errors import ContextTooLong, ModelError

_UNSAID = 1 << 20
"""The context of a model that does not say how much it reads."""


class Speaker:
    """One model's words. For one thread."""

    def __init__(
        self, loaded: Loaded, *, tool_format: str | None, max_context: int | None, max_answer: int, seed: int
    ) -> None:
        kind = str(loaded.model.config.model_type)
        self.tokenizer = loaded.tokenizer
        source = str(getattr(self.tokenizer, "chat_template", None) or "")
        self.format = tool_formats.named(tool_format) if tool_format else tool_formats.detect(source, kind)
        self.template = ChatTemplate(self.tokenizer, self.format, source=loaded.source)
        self.prompts = Prompts(self.tokenizer, self.template, self.format)
        self.reader = Reader(self.tokenizer, self.format)
        self.max_context = max_context or _context_of(loaded)
        self.num_answers = 0
        self.source = loaded.source
        self._max_answer = max_answer
        self._model = loaded.model
        self._random = random.Random(seed)

    def rows(self, call: Call, rollout_id: str, future: Future[Reply]) -> list[Row]:
        """Rows to sample for a call; when all have ended, the future has the reply, or the first error."""
        wishes = wishes_of(call)
        prompt = self.prompts.make(call, wishes, rollout_id)
        max_new = self._max_new(prompt, wishes)
        answer = _Answer(self, prompt, wishes, rollout_id, future)
        for _ in range(wishes.n):
            row = Row(
                prompt.ids,
                wishes,
                max_new=max_new,
                ends=self._ends,
                seed=self._seed(wishes, len(answer.rows)),
                tokenizer=self.tokenizer,
                on_end=answer.row_ended,
                rollout_id=rollout_id,
            )
            row.is_cancelled = future.done
            answer.rows.append(row)
        return answer.rows

    @cached_property
    def _ends(self) -> frozenset[int]:
        """Ids after which an answer is over: those of the generation config, the tokenizer and the chat template."""
        configured: Any = getattr(getattr(self._model, "generation_config", None), "eos_token_id", None)
        ends: list[Any] = [configured] if isinstance(configured, int) else list(configured or ())
        closing = self.tokenizer.encode(self.template.closer, add_special_tokens=False)[:1]
        marks = [id for id in closing if id in self.tokenizer.added_tokens_decoder]
        return frozenset(int(end) for end in [*ends, self.tokenizer.eos_token_id, *marks] if end is not None)

    def forget(self, rollout_id: str) -> None:
        self.prompts.forget(rollout_id)

    def encode(
        self,
        messages: Sequence[Message],
        tools: Tools,
        agent: str,
        learned: Collection[int] | None,
    ) -> Sample:
        return conversations.encode(self.template, self.tokenizer, messages, tools, agent=agent, learned=learned)

    def _seed(self, wishes: Wishes, choice: int) -> int:
        if wishes.seed is None:
            return self._random.getrandbits(62)
        return (wishes.seed * 1_000_003 + choice) % (1 << 62)

    def _max_new(self, prompt: Prompt, wishes: Wishes) -> int:
        """ContextTooLong when there is no room for a single token."""
        left = self.max_context - len(prompt.ids)
        if left <= 0:
            raise ContextTooLong(
                f"the call has {len(prompt.ids)} tokens, and {self.source} reads {self.max_context}, its answer "
                "included. Send less history, or shorter tool results."
            )
        return min(wishes.max_tokens or self._max_answer, left)


class _Answer:
    """The answer to one call, until all its rows have ended."""

    def __init__(
        self, speaker: Speaker, prompt: Prompt, wishes: Wishes, rollout_id: str, future: Future[Reply]
    ) -> None:
        self.rows: list[Row] = []
        self._speaker = speaker
        self._prompt = prompt
        self._wishes = wishes
        self._rollout_id = rollout_id
        self._future = future
        self._num_ended = 0

    def row_ended(self, row: Row, error: BaseException | None) -> None:
        self._num_ended += 1
        if error is not None:
            settle(self._future, error=error)
        elif self._num_ended == len(self.rows) and not self._future.done():
            try:
                settle(self._future, result=self._reply())
            except Exception as unread:  # noqa: BLE001 - told to the one who asked
                settle(self._future, error=unread)

    def _reply(self) -> Reply:
        speaker = self._speaker
        texts = [self._prompt.forced + row.text() for row in self.rows]
        saids = [speaker.reader.said(text, self._wishes) for text in texts]
        reply = speaker.reader.reply(self.rows, saids, self._prompt, model=speaker.source)
        messages = [reply.message, *reply.alternatives]
        for row, text, said, message in zip(self.rows, texts, saids, messages, strict=True):
            told: dict[str, Any] = {"completion_ids": row.completion_ids, "text": text, "said": said, "reply": message}
            speaker.prompts.remember(self._prompt, self._rollout_id, **told)
        speaker.num_answers += 1
        return reply


async def answered(speaker: Speaker, call: Call, rollout_id: str, complete: Callable[[Row], Awaitable[None]]) -> Reply:
    """The reply to a call whose rows are completed elsewhere, all at once; the last one's end makes it."""
    reply: Future[Reply] = Future()
    rows = speaker.rows(call, rollout_id, reply)

    async def drawn(row: Row) -> None:
        try:
            await complete(row)
        except (ModelError, LookupError) as error:
            row.on_end(row, error)
        else:
            row.on_end(row, None)

    async with asyncio.TaskGroup() as group:
        for row in rows:
            group.create_task(drawn(row))
    told = reply.result(0)
    # Where top_p or top_k cut, servers tell the logprob among the tokens that were left: not the contract's.
    return msgspec.structs.replace(told, logprobs=None) if rows[0].is_cut else told


def settle(future: Future[Any], *, result: Any = None, error: BaseException | None = None) -> None:
    """Tell the one who waits, unless nobody does any more."""
    if not future.done() and future.set_running_or_notify_cancel():
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _context_of(loaded: Loaded) -> int:
    """What the model was made for; tokenizers say it where configurations do not."""
    config = loaded.model.config.get_text_config()
    stated = getattr(config, "max_position_embeddings", None) or getattr(loaded.tokenizer, "model_max_length", None)
    return min(int(stated or _UNSAID), _UNSAID)
