"""How many rollouts run at once, and how soon the next may begin, so that a provider's rate limits are kept.

Two rules. Caps per minute that the user knows (`calls_per_minute`, `tokens_per_minute`) are kept by not beginning a
rollout before the last minute has room for what a rollout has taken so far. Limits nobody told us show as status 429:
the number in flight is halved then, at most once a second, and grows by one with every round of rollouts that met none
(additive increase, multiplicative decrease, as in TCP).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from agentlightning.data.trajectory import Step
from agentlightning.trainer.interrupt import Interrupt

_WINDOW_SECONDS = 60.0
_SECONDS_BETWEEN_HALVINGS = 1.0
_PATIENCE = 0.2
"""Of a rollout's time: a rollout that is answered so much later does not make the run noticeably slower, since others
are under way; and of a slow one it is much less."""
_MAX_PATIENCE_SECONDS = 0.01
_SMOOTHING = 0.1
TOO_MANY = 429


class Pace:
    """Asked before every rollout, told of every step. Lives on one event loop; never polls."""

    def __init__(
        self,
        max_in_flight: int,
        *,
        calls_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_in_flight = max_in_flight
        self.allowed = float(max_in_flight)
        """In flight at the moment; falls with refusals, and recovers."""
        self.num_refused = 0
        """Calls that were answered with 429."""
        self._caps = {"calls": calls_per_minute, "tokens": tokens_per_minute}
        self._clock = clock
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._spent: deque[tuple[float, float, float]] = deque()
        """(when, calls, tokens) of the last minute."""
        self._num_rollouts = 0
        self._mean_seconds = 0.0
        """Of the last rollouts, those before them counting less and less."""
        self._taken = {"calls": 0.0, "tokens": 0.0}
        self._halved_at = float("-inf")

    def slot(self, interrupt: Interrupt | None = None) -> AbstractAsyncContextManager[None]:
        """Wait for a turn, and hold it for one rollout. RunInterrupted when the wait for room is interrupted."""
        return _Slot(self, interrupt)

    async def take(self, interrupt: Interrupt | None) -> None:
        """What `slot` waits for; whoever has it gives it back."""
        await self._turn()
        try:
            while (seconds := self._until_room()) > 0:
                await (interrupt.sleep if interrupt is not None else asyncio.sleep)(seconds)
        except BaseException:
            self.give_back()
            raise
        self._num_rollouts += 1

    def give_back(self, seconds: float = 0.0) -> None:
        """A rollout has ended, after so much time."""
        self._mean_seconds += _SMOOTHING * (seconds - self._mean_seconds)
        self._in_flight -= 1
        self._wake()

    def patience(self) -> float:
        """For how many seconds what one rollout tells may wait for what others tell: not while it is alone."""
        return min(_MAX_PATIENCE_SECONDS, _PATIENCE * self._mean_seconds) if self._in_flight > 1 else 0.0

    def saw(self, step: Step) -> None:
        """A call was answered, or refused."""
        tokens = step.reply.usage.total_tokens if step.reply is not None and step.reply.usage is not None else 0
        self._spent.append((self._clock(), 1, tokens))
        self._taken["calls"] += 1
        self._taken["tokens"] += tokens
        if step.status == TOO_MANY:
            self._refused()
        else:
            self.allowed = min(float(self.max_in_flight), self.allowed + 1 / self.allowed / self._per_rollout("calls"))
            self._wake()

    async def _turn(self) -> None:
        if self._in_flight < int(self.allowed) and not self._waiting:
            self._in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given, and nobody will use it
                self._in_flight -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._in_flight < max(1, int(self.allowed)):
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)

    def _refused(self) -> None:
        self.num_refused += 1
        now = self._clock()
        if now - self._halved_at >= _SECONDS_BETWEEN_HALVINGS:
            self._halved_at = now
            self.allowed = max(1.0, self.allowed / 2)

    def _until_room(self) -> float:
        """Seconds until one more rollout fits under every cap, given what a rollout has taken so far."""
        now = self._clock()
        while self._spent and self._spent[0][0] <= now - _WINDOW_SECONDS:
            self._spent.popleft()
        return max(self._wait_for(name, index, now) for index, name in enumerate(self._caps, start=1))

    def _wait_for(self, name: str, index: int, now: float) -> float:
        cap = self._caps[name]
        if cap is None:
            return 0.0
        begun = (self._in_flight - 1) * self._per_rollout(name)
        excess = sum(entry[index] for entry in self._spent) + begun / 2 + self._per_rollout(name) - cap
        for when, *amounts in self._spent:
            if excess <= 0:
                break
            excess -= amounts[index - 1]
            if excess <= 0:
                return max(0.001, when + _WINDOW_SECONDS - now)
        return 0.0

    def _per_rollout(self, name: str) -> float:
        return max(1.0, self._taken[name] / self._num_rollouts) if self._num_rollouts else 1.0


class _Slot(AbstractAsyncContextManager[None]):
    """Every rollout passes here, and `asynccontextmanager` would take several times as long."""

    __slots__ = ("_began_at", "_interrupt", "_pace")

    def __init__(self, pace: Pace, interrupt: Interrupt | None) -> None:
        self._pace, self._interrupt = pace, interrupt

    async def __aenter__(self) -> None:
        await self._pace.take(self._interrupt)
        self._began_at = time.monotonic()

    async def __aexit__(self, *_raised: object) -> None:
        self._pace.give_back(time.monotonic() - self._began_at)
