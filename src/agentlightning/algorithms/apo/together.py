"""Await many things at once, and let all of them end before the first error is raised.

What was paid for is then on record, and which error is raised does not depend on timing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def together(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """The results in order; the first error in that order is raised once all have ended."""
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
