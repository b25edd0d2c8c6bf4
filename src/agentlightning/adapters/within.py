"""What an agent gives back may still have to run: coroutines and generators that stay inside their scope to the end."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from agentlightning.interception.scope import Scope, entered

_Inside = Callable[[], AbstractContextManager[None]]
OnEnd = Callable[..., None]
"""Called as `(output)` or `(output, error)`, once."""


def within(result: Any, scope: Scope, speaker: str | None = None, *, on_end: OnEnd | None = None) -> Any:
    """A coroutine or generator that runs inside `scope` whenever it runs; any other value as it is.

    `on_end` hears of the end: what was returned (of a generator: the list of what it gave), or what was raised.
    """
    inside = partial(entered, scope, speaker)
    if inspect.iscoroutine(result):
        inner = _await_within(result, inside)
        return inner if on_end is None else _await_to_the_end(inner, on_end)
    if inspect.isgenerator(result):
        inner = _generate_within(result, inside)
        return inner if on_end is None else _generate_to_the_end(inner, on_end)
    if inspect.isasyncgen(result):
        inner = _generate_async_within(result, inside)
        return inner if on_end is None else _generate_async_to_the_end(inner, on_end)
    if on_end is not None:
        on_end(result)
    return result


async def _await_to_the_end(coroutine: Any, on_end: OnEnd) -> Any:
    try:
        result = await coroutine
    except BaseException as error:
        on_end(error=error)
        raise
    on_end(result)
    return result


def _generate_to_the_end(generator: Generator[Any, Any, Any], on_end: OnEnd) -> Generator[Any, Any, Any]:
    given: list[Any] = []
    try:
        sent: Any = None
        while True:
            try:
                item = generator.send(sent)
            except StopIteration as stop:
                on_end(joined(given))
                return stop.value
            given.append(item)
            sent = yield item
    except GeneratorExit:  # nobody reads on; what was given until then is the answer
        generator.close()
        on_end(joined(given))
        raise
    except BaseException as error:
        on_end(joined(given), error)
        raise


async def _generate_async_to_the_end(generator: AsyncGenerator[Any], on_end: OnEnd) -> AsyncGenerator[Any]:
    given: list[Any] = []
    try:
        async for item in generator:
            given.append(item)
            yield item
    except GeneratorExit:
        await generator.aclose()
        on_end(joined(given))
        raise
    except BaseException as error:
        on_end(joined(given), error)
        raise
    on_end(joined(given))


def joined(items: list[Any]) -> Any:
    """What a generator gave, as an answer: pieces of text are a streamed text; any other list is that."""
    return "".join(items) if items and all(isinstance(item, str) for item in items) else items


async def _await_within(coroutine: Any, inside: _Inside) -> Any:
    with inside():
        return await coroutine


def _generate_within(generator: Generator[Any, Any, Any], inside: _Inside) -> Generator[Any, Any, Any]:
    """The scope is entered for each step only: between them the consumer's own calls are not ours."""
    sent: Any = None
    try:
        while True:
            with inside():
                try:
                    item = generator.send(sent)
                except StopIteration as stop:
                    return stop.value
            sent = yield item
    finally:
        with inside():
            generator.close()


async def _generate_async_within(generator: Any, inside: _Inside) -> AsyncGenerator[Any]:
    try:
        while True:
            with inside():
                try:
                    item = await generator.__anext__()
                except StopAsyncIteration:
                    return
            yield item
    finally:
        with inside():
            await generator.aclose()
