"""A scope follows its own work wherever it goes, and nobody else's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from queue import SimpleQueue
from typing import Any

import httpx
import openai
import pytest
from tests.interception.rollout import QUESTION, STREAMED, rollout
from tests.servers import FakeOpenAI

from agentlightning.errors import RolloutStopped
from agentlightning.interception.dialects import DIALECTS
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, current_agent, current_scope, emit_reward, entered, speaking


def test_outside_there_is_no_scope() -> None:
    assert current_scope() is None and current_agent() is None


def test_scopes_nest_and_come_back() -> None:
    outer, inner = Scope("outer"), Scope("inner")
    with entered(outer):
        with entered(inner), speaking("member"):
            assert (current_scope(), current_agent()) == (inner, "member")
        with entered(None):
            assert (current_scope(), current_agent()) == (None, None)
        assert (current_scope(), current_agent()) == (outer, "outer")
    assert current_scope() is None


def test_a_scope_entered_within_speaking_speaks_for_itself() -> None:
    with entered(Scope("team")), speaking("member"):
        with entered(Scope("other")):
            assert current_agent() == "other"
        assert current_agent() == "member"


# ── threads ──


class Subclass(threading.Thread):
    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self.function = function

    def run(self) -> None:
        self.function()


class RunSet(threading.Thread):
    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self.run = function  # type: ignore[method-assign]


def timer(function: Callable[[], None]) -> threading.Thread:
    return threading.Timer(0, function)


@pytest.mark.parametrize("make", [lambda function: threading.Thread(target=function), Subclass, RunSet, timer])
def test_a_thread_started_in_a_rollout_is_part_of_it(make: Any) -> None:
    found: list[Any] = []
    scope = Scope("helper")
    with entered(scope), speaking("member"):
        thread = make(lambda: found.append((current_scope(), current_agent())))
        thread.start()
        thread.join()
    assert found == [(scope, "member")]


def test_a_thread_started_outside_is_not() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(current_scope()))
    thread.start()
    thread.join()
    assert found == [None] and "run" not in vars(thread)


def test_a_finished_thread_holds_nothing() -> None:
    scope = Scope("helper")
    with entered(scope):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
    gone = weakref.ref(scope)
    del scope
    assert gone() is None and "run" not in vars(thread)
    thread_gone = weakref.ref(thread)
    gc.disable()
    try:
        del thread
        assert thread_gone() is None
    finally:
        gc.enable()


def test_work_given_to_any_pool_is_part_of_the_rollout_and_the_pool_is_not() -> None:
    before = ThreadPoolExecutor(1)
    a, b = Scope("a"), Scope("b")
    with entered(a):
        within = ThreadPoolExecutor(1)
        assert [pool.submit(current_scope).result() for pool in (before, within)] == [a, a]
        assert list(within.map(lambda _: current_agent(), range(2))) == ["a", "a"]
    with entered(b):
        assert [pool.submit(current_scope).result() for pool in (before, within)] == [b, b]
    assert [pool.submit(current_scope).result() for pool in (before, within)] == [None, None]
    before.shutdown()
    within.shutdown()


POOLED: list[tuple[str, Callable[[ThreadPool], Any]]] = [
    ("apply", lambda pool: pool.apply(current_scope)),
    ("apply_async", lambda pool: pool.apply_async(current_scope).get()),
    ("map", lambda pool: pool.map(lambda _: current_scope(), [1, 2])[1]),
    ("starmap", lambda pool: pool.starmap(lambda *_: current_scope(), [(1, 2)])[0]),
    ("imap", lambda pool: list(pool.imap(lambda _: current_scope(), [1, 2]))[1]),
    ("imap_unordered", lambda pool: list(pool.imap_unordered(lambda _: current_scope(), [1, 2], 2))[1]),
    ("callback", lambda pool: _called(lambda tell: pool.apply_async(int, (), {}, tell))),
    ("error_callback", lambda pool: _called(lambda tell: pool.apply_async(int, ("x",), error_callback=tell))),
]


def _called(when: Callable[[Callable[[Any], None]], Any]) -> Scope | None:
    """The scope in which what was given to `when` got called."""
    found: SimpleQueue[Scope | None] = SimpleQueue()
    when(lambda _: found.put(current_scope()))
    return found.get(timeout=10)


@pytest.mark.parametrize(("name", "ask"), POOLED)
@pytest.mark.parametrize("is_made_first", [True, False])
def test_work_given_to_the_older_kind_of_pool_is_part_of_the_rollout_and_the_pool_is_not(
    name: str, ask: Any, is_made_first: bool
) -> None:
    first, second = Scope("first"), Scope("second")
    pool = ThreadPool(1) if is_made_first else None
    with entered(first):
        pool = pool or ThreadPool(1)
        assert ask(pool) is first
    with entered(second):
        assert ask(pool) is second
    assert ask(pool) is None
    pool.close()
    pool.join()


def test_what_is_called_when_a_future_is_done_is_part_of_the_rollout_that_asked_for_it() -> None:
    scope = Scope("helper")
    with ThreadPoolExecutor(1) as pool:
        gate = threading.Event()
        future = pool.submit(gate.wait)
        with entered(scope):
            found = _called(lambda tell: (future.add_done_callback(tell), gate.set()))
        assert found is scope
        assert _called(pool.submit(int).add_done_callback) is None


def test_what_a_loop_calls_later_is_part_of_the_rollout_that_asked_for_it() -> None:
    async def all_ways() -> list[Scope | None]:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[Scope | None] = asyncio.Queue()

        def tell(*_: Any) -> None:
            told.put_nowait(current_scope())

        with entered(scope):
            loop.call_soon(tell)
            loop.call_later(0, tell)
            asyncio.ensure_future(asyncio.sleep(0)).add_done_callback(tell)
            threading.Thread(target=loop.call_soon_threadsafe, args=(tell,)).start()
        return [await told.get() for _ in range(4)]

    scope = Scope("helper")
    assert asyncio.run(all_ways()) == [scope] * 4


def test_asyncio_carries_scopes_into_tasks_threads_and_executors() -> None:
    async def everywhere() -> list[Scope | None]:
        loop = asyncio.get_running_loop()

        async def task() -> Scope | None:
            return current_scope()

        with ThreadPoolExecutor(1) as pool:
            return [
                await asyncio.create_task(task()),
                *await asyncio.gather(task(), task()),
                await asyncio.to_thread(current_scope),
                await loop.run_in_executor(None, current_scope),
                await loop.run_in_executor(pool, current_scope),
            ]

    async def two() -> tuple[list[Any], list[Any], list[Any]]:
        first, second = Scope("first"), Scope("second")
        with entered(first):
            one = await everywhere()
        with entered(second):
            other = await everywhere()
        rest = await everywhere()
        assert set(one) == {first} and set(other) == {second}
        return one, other, rest

    one, other, rest = asyncio.run(two())
    assert (len(one), len(other), rest) == (6, 6, [None] * 6)


def test_a_coroutine_handed_to_a_loop_in_another_thread_keeps_its_callers_scope() -> None:
    """Such a loop is often started by the first rollout that needs it, and outlives it."""
    loop = asyncio.new_event_loop()
    first, second = Scope("first"), Scope("second")

    async def who() -> Scope | None:
        return current_scope()

    with entered(first):
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        assert asyncio.run_coroutine_threadsafe(who(), loop).result() is first
    with entered(second):
        assert asyncio.run_coroutine_threadsafe(who(), loop).result() is second
    assert asyncio.run_coroutine_threadsafe(who(), loop).result() is None
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


# ── generators ──


def test_an_async_generator_closed_early_leaves_no_scope_behind() -> None:
    scope = Scope("helper")

    async def items() -> AsyncIterator[int]:
        with entered(scope):
            yield 1
            yield 2

    async def main() -> None:
        generator = items()
        assert await anext(generator) == 1
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
        assert await asyncio.create_task(asyncio.sleep(0, current_scope())) in (None, scope)

    asyncio.run(main())
    assert current_scope() is None


def test_a_generator_closed_from_another_thread_does_not_complain() -> None:
    def items() -> Iterator[int]:
        with entered(Scope("helper")):
            yield 1

    generator = items()
    contextvars.copy_context().run(next, generator)
    thread = threading.Thread(target=generator.close)  # type: ignore[attr-defined]
    thread.start()
    thread.join()
    with entered(None):
        assert current_scope() is None


# ── the end of a rollout ──


def test_late_calls_raise_are_counted_and_reach_nobody() -> None:
    scope, outcomes = Scope("helper", recorder=Recorder()), []
    ended = threading.Event()

    with FakeOpenAI() as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=3)

        def late() -> None:
            ended.wait(5)
            for _ in range(2):
                try:
                    client.chat.completions.create(**QUESTION)
                except Exception:
                    outcomes.append("swallowed")
                except RolloutStopped as stopped:
                    outcomes.append(str(stopped))

        with entered(scope):
            thread = threading.Thread(target=late)
            thread.start()
        scope.close()
        ended.set()
        thread.join()
        client.close()
    assert len(outcomes) == 2 and all("has ended" in outcome for outcome in outcomes)
    assert (scope.num_late_calls, server.requests) == (2, [])


def test_an_async_late_call_is_stopped_too() -> None:
    scope = Scope("helper", recorder=Recorder())

    async def late(base_url: str) -> BaseException | None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="k") as client:
            try:
                await client.chat.completions.create(**STREAMED)
            except Exception:
                return None
            except RolloutStopped as stopped:
                return stopped
        return None

    with FakeOpenAI() as server, entered(scope):
        scope.close()
        assert isinstance(asyncio.run(late(server.base_url)), RolloutStopped)
    assert (scope.num_late_calls, server.requests) == (1, [])


def test_late_calls_from_many_threads_are_all_counted() -> None:
    scope = Scope("helper")
    scope.close()

    def late() -> None:
        for _ in range(200):
            with pytest.raises(RolloutStopped):
                scope.admit()

    threads = [threading.Thread(target=late) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scope.num_late_calls == 1600


def test_a_stream_opened_in_time_may_be_read_to_its_end() -> None:
    with FakeOpenAI("one two three") as server, rollout() as recorder, httpx.Client(verify=False) as client:
        request = client.build_request("POST", server.base_url + "/chat/completions", json=STREAMED)
        response = client.send(request, stream=True)
        scope = current_scope()
        assert scope is not None
        scope.close()
        response.read()
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.text == "one two three"


# ── many at once ──


def test_sixteen_rollouts_in_threads_do_not_mix() -> None:
    recorders = [Recorder() for _ in range(16)]
    with FakeOpenAI(lambda body: body["messages"][0]["content"]) as server:
        client = openai.OpenAI(
            base_url=server.base_url, api_key="k", http_client=openai.DefaultHttpxClient(verify=False)
        )

        def agent(number: int) -> None:
            with rollout(f"agent {number}", recorder=recorders[number]), ThreadPoolExecutor(2) as pool:
                asked = [[{"role": "user", "content": f"{number} {turn}"}] for turn in range(3)]
                list(pool.map(lambda messages: client.chat.completions.create(model="m", messages=messages), asked))

        threads = [threading.Thread(target=agent, args=[number]) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
    check_unmixed(recorders)


def test_sixteen_rollouts_in_asyncio_do_not_mix() -> None:
    recorders = [Recorder() for _ in range(16)]

    async def main(base_url: str) -> None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="k") as client:

            async def ask(text: str) -> None:
                stream = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": text}], stream=True
                )
                assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text

            async def agent(number: int) -> None:
                with rollout(f"agent {number}", recorder=recorders[number]):
                    await asyncio.gather(*(ask(f"{number} {turn}") for turn in range(3)))

            await asyncio.gather(*(agent(number) for number in range(16)))

    with FakeOpenAI(lambda body: body["messages"][0]["content"]) as server:
        asyncio.run(main(server.base_url))
    check_unmixed(recorders)


def check_unmixed(recorders: list[Recorder]) -> None:
    for number, recorder in enumerate(recorders):
        steps = recorder.steps()
        assert [step.index for step in steps] == [0, 1, 2]
        assert {step.agent for step in steps} == {f"agent {number}"}
        assert {step.reply.text for step in steps if step.reply} == {f"{number} {turn}" for turn in range(3)}


# ── rewards ──


def test_a_reward_belongs_to_the_rollout_it_is_emitted_in() -> None:
    scope = Scope("helper")
    emit_reward(1)
    with entered(scope):
        emit_reward(0.5, "so so")
        emit_reward(3, name="tokens", metric=True)
    [reward, metric] = scope.rewards
    assert (reward.value, reward.reason, reward.source, reward.is_metric) == (0.5, "so so", "emitted", False)
    assert (metric.name, metric.is_metric) == ("tokens", True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "x"])
def test_a_reward_that_is_no_number_is_the_rollouts_error_and_does_not_disturb_the_agent(value: Any) -> None:
    scope = Scope("helper")
    emit_reward(value)
    with entered(scope):
        emit_reward(value)
    assert scope.rewards == [] and "no finite number" in (scope.reward_error or "")


def test_a_reward_of_a_step_names_the_speaking_agents_last_call() -> None:
    scope = Scope("team", recorder=Recorder())
    assert scope.recorder is not None
    with entered(scope):
        emit_reward(1, step=True)
        for agent in ("coder", "reviewer"):
            scope.recorder.open_call(agent=agent, dialect=DIALECTS[0], url="http://h", headers={}, body=b"{}")
        with speaking("coder"):
            emit_reward(2, step=True)
        emit_reward(3, step=True)
        emit_reward(4)
    assert [reward.step for reward in scope.rewards] == [-1, 0, 1, None]


def test_a_late_reward_is_not_counted() -> None:
    scope = Scope("helper")
    scope.close()
    with entered(scope):
        emit_reward(1)
    assert scope.rewards == []
