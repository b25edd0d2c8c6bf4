"""A marked function is a step inside a rollout, does there what its mode says, and is itself everywhere else."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.interception.rollout import rollout

from agentlightning.data.trajectory import Step
from agentlightning.errors import ConfigError, RolloutStopped
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered, speaking
from agentlightning.interception.tools import ReplayMiss, Tape, ToolMode, ToolModes, parse_modes, step, step_of


class Counter:
    """Counts how often it ran, in the four ways a tool can be written."""

    def __init__(self) -> None:
        self.num_runs = 0

    def sync(self, x: int, unit: str = "C") -> str:
        self.num_runs += 1
        return f"{x} {unit}"

    async def coroutine(self, x: int, unit: str = "C") -> str:
        await asyncio.sleep(0)
        return self.sync(x, unit)

    def generator(self, x: int, unit: str = "C") -> Iterator[str]:
        yield from self.sync(x, unit).split()

    async def async_generator(self, x: int, unit: str = "C") -> AsyncIterator[str]:
        for item in self.sync(x, unit).split():
            yield item


WAYS = ("sync", "coroutine", "generator", "async_generator")


def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call gives, awaited and drained."""

    async def finished(result: Any) -> Any:
        return await result if inspect.iscoroutine(result) else [item async for item in result]

    result = function(*args, **kwargs)
    if inspect.isgenerator(result):
        return list(result)
    return asyncio.run(finished(result)) if inspect.iscoroutine(result) or inspect.isasyncgen(result) else result


def tool(way: str) -> tuple[Counter, Any]:
    counter = Counter()
    return counter, step_of(getattr(counter, way), "tool", "convert")


def modes(mode: Any, tape: Tape | None = None, **fields: Any) -> ToolModes:
    return ToolModes({"convert": ToolMode(mode=mode, **fields)}, tape)


def expected(way: str, text: str = "1 C") -> Any:
    return text.split() if "generator" in way else text


@pytest.mark.parametrize("way", WAYS)
def test_a_marked_function_is_a_step(way: str) -> None:
    _, convert = tool(way)
    with rollout() as recorder, speaking("member"):
        assert called(convert, 1, unit="F") == expected(way, "1 F")
    [seen] = recorder.steps()
    assert (seen.kind, seen.name, seen.agent) == ("tool", "convert", "member")
    assert (seen.arguments, seen.result, seen.error) == ({"x": 1, "unit": "F"}, expected(way, "1 F"), None)
    assert seen.latency_seconds is not None and not seen.is_partial


@pytest.mark.parametrize("way", WAYS)
def test_outside_a_rollout_it_is_the_function_itself(way: str) -> None:
    counter, convert = tool(way)
    original = getattr(counter, way)
    assert called(convert, 1) == expected(way) and counter.num_runs == 1
    made = (convert(1), original(1))
    assert type(made[0]) is type(made[1])
    assert inspect.signature(convert) == inspect.signature(original)
    assert inspect.iscoroutinefunction(convert) == inspect.iscoroutinefunction(original)
    for leftover in made:
        if inspect.iscoroutine(leftover):
            leftover.close()


@pytest.mark.parametrize("way", WAYS)
def test_an_optimised_agents_tools_always_run(way: str) -> None:
    counter, convert = tool(way)
    with entered(Scope("helper", tools=modes("stub"))):
        assert called(convert, 1) == expected(way)
    assert counter.num_runs == 1


@pytest.mark.parametrize("way", WAYS)
def test_what_a_tool_raises_is_recorded_and_raised(way: str) -> None:
    counter, convert = tool(way)
    counter.sync = lambda *_: 1 / 0  # type: ignore[method-assign]
    with rollout() as recorder, pytest.raises(ZeroDivisionError):
        called(step_of(getattr(counter, way), "tool") if way == "sync" else convert, 1)
    [seen] = recorder.steps()
    assert seen.error == "ZeroDivisionError: division by zero" and not seen.is_partial


def test_steps_nest() -> None:
    @step
    def inner(x: int) -> int:
        return x + 1

    @step(kind="tool", name="outermost")
    def outer(x: int) -> int:
        return inner(x) * 2

    with rollout() as recorder:
        assert outer(1) == 4
    assert [(seen.index, seen.name, seen.kind, seen.result) for seen in recorder.steps()] == [
        (0, "outermost", "tool", 4),
        (1, "inner", "function", 2),
    ]


def test_methods_of_every_kind_can_be_marked() -> None:
    class Shop:
        @step
        def order(self, item: str) -> str:
            return item

        @classmethod
        @step
        def count(cls, item: str) -> int:
            return len(item)

        @staticmethod
        @step
        def name(item: str) -> str:
            return item.title()

    with rollout() as recorder:
        assert (Shop().order("tea"), Shop.count("tea"), Shop.name("tea")) == ("tea", 3, "Tea")
    assert [seen.arguments for seen in recorder.steps()] == [{"item": "tea"}] * 3


def test_what_is_no_function_cannot_be_marked() -> None:
    with pytest.raises(TypeError, match="classmethod"):
        step(classmethod(lambda cls: 1))


def test_marking_twice_is_marking_once() -> None:
    once = step(Counter().sync)
    assert step_of(once, "tool") is once


def test_objects_partials_and_builtins_can_be_marked() -> None:
    class Search:
        async def __call__(self, query: str) -> str:
            return query

    with rollout() as recorder:
        assert called(step(Search()), "a") == "a"
        assert called(step(functools.partial(Counter().coroutine, 1), name="p")) == "1 C"
        assert step(name="biggest")(max)(1, 2) == 2
    assert [(seen.name, seen.result) for seen in recorder.steps()] == [("Search", "a"), ("p", "1 C"), ("biggest", 2)]


def test_wrong_arguments_are_the_functions_own_complaint() -> None:
    with rollout() as recorder, pytest.raises(TypeError, match="missing 1 required"):
        step(Counter().sync)()
    assert recorder.steps()[0].error is not None


def test_arguments_are_kept_as_they_were_when_it_was_called() -> None:
    def clear(items: list[int]) -> None:
        items.clear()

    with rollout() as recorder:
        step(clear)([1, 2])
    assert recorder.steps()[0].arguments == {"items": [1, 2]}


# ── generators ──


def test_a_generator_left_early_is_a_partial_step() -> None:
    closed: list[bool] = []

    @step
    def numbers() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    with rollout() as recorder:
        generator = numbers()
        assert recorder.steps() == []
        assert [next(generator), next(generator)] == [0, 1]
        generator.close()  # type: ignore[attr-defined]
    [seen] = recorder.steps()
    assert (seen.result, seen.is_partial, closed) == ([0, 1], True, [True])


def test_an_async_generator_left_early_is_a_partial_step() -> None:
    _, convert = tool("async_generator")

    async def main() -> None:
        generator = convert(1)
        assert await anext(generator) == "1"
        await generator.aclose()

    with rollout() as recorder:
        asyncio.run(main())
    [seen] = recorder.steps()
    assert (seen.result, seen.is_partial) == (["1"], True)


def test_what_is_sent_and_thrown_into_a_generator_arrives() -> None:
    @step
    def echo() -> Any:
        try:
            got = yield "ready"
            yield got
        except KeyError:
            yield "caught"
        return "done"

    with rollout() as recorder:
        generator = echo()
        assert next(generator) == "ready"
        assert generator.send("x") == "x"
        assert generator.throw(KeyError()) == "caught"
        with pytest.raises(StopIteration) as stop:
            next(generator)
    assert stop.value.value == "done"
    assert recorder.steps()[0].result == ["ready", "x", "caught"]


def test_what_is_sent_into_an_async_generator_arrives() -> None:
    @step
    async def echo() -> Any:
        got = yield "ready"
        yield got

    async def main() -> list[str]:
        generator = echo()
        return [await anext(generator), await generator.asend("x"), *[item async for item in generator]]

    with rollout() as recorder:
        assert asyncio.run(main()) == ["ready", "x"]
    assert recorder.steps()[0].result == ["ready", "x"]


# ── modes ──


@pytest.mark.parametrize("way", WAYS)
def test_a_stub_answers_without_running(way: str) -> None:
    counter, convert = tool(way)
    with rollout(tools=modes("stub", returns=["a", "b"])) as recorder:
        assert called(convert, 1) == ["a", "b"]
    assert counter.num_runs == 0 and recorder.steps()[0].result == ["a", "b"]


def test_a_stubbed_answer_belongs_to_who_asked() -> None:
    _, convert = tool("sync")
    with rollout(tools=modes("stub", returns={"items": []})):
        convert(1)["items"].append("mine")
        assert convert(1) == {"items": []}


@pytest.mark.parametrize("way", WAYS)
def test_recording_runs_each_distinct_call_once(way: str) -> None:
    counter, convert = tool(way)
    tools = modes("record")
    for _ in range(2):
        with rollout(tools=tools) as recorder:
            assert called(convert, 1) == expected(way)
            assert called(convert, x=1) == expected(way)
            assert called(convert, 2) == expected(way, "2 C")
        assert [seen.result for seen in recorder.steps()] == [expected(way), expected(way), expected(way, "2 C")]
    assert counter.num_runs == 2


@pytest.mark.parametrize("way", WAYS)
def test_replay_answers_from_the_tape_or_fails(way: str) -> None:
    counter, convert = tool(way)
    tape = Tape()
    tape.put("convert", {"x": 1}, ["taped"])
    with rollout(tools=modes("replay", tape)) as recorder:
        assert called(convert, 1) == ["taped"]
        with pytest.raises(ReplayMiss, match="never recorded"):
            called(convert, 2)
    assert counter.num_runs == 0
    assert [bool(seen.error) for seen in recorder.steps()] == [False, True]


def test_a_failed_call_is_not_recorded() -> None:
    results = iter([OSError("down"), "up"])

    def flaky() -> str:
        if isinstance(result := next(results), Exception):
            raise result
        return result

    with rollout(tools=ToolModes({"flaky": ToolMode(mode="record")})):
        marked = step(flaky)
        with pytest.raises(OSError):
            marked()
        assert (marked(), marked()) == ("up", "up")


def test_a_recorded_result_keeps_its_type_and_belongs_to_who_asked() -> None:
    calls: list[int] = []

    def look() -> tuple[set[int], list[int]]:
        calls.append(1)
        return {1}, [2]

    with rollout(tools=ToolModes({"look": ToolMode(mode="record")})):
        marked = step(look)
        marked()[1].append(3)
        assert marked() == ({1}, [2])
    assert calls == [1]


def test_recording_runs_once_even_when_many_threads_ask_at_once() -> None:
    tools, runs, results = modes("record"), [], []

    def slow(x: int) -> int:
        runs.append(x)
        threading.Event().wait(0.05)
        return x

    marked = step_of(slow, "tool", "convert")

    def agent() -> None:
        with rollout(tools=tools):
            results.append(marked(1))

    threads = [threading.Thread(target=agent) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (runs, results) == ([1], [1] * 8)


def test_recording_runs_once_even_when_many_tasks_ask_at_once() -> None:
    runs: list[int] = []

    async def slow(x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0.02)
        return x

    marked = step_of(slow, "tool", "convert")

    async def main() -> list[int]:
        asked = [asyncio.create_task(marked(1)) for _ in range(8)]
        await asyncio.sleep(0.005)
        asked.pop().cancel()
        return await asyncio.gather(*asked)

    with rollout(tools=modes("record")):
        assert asyncio.run(main()) == [1] * 7
    assert runs == [1]


def test_when_the_one_that_runs_fails_the_next_one_runs() -> None:
    runs: list[int] = []

    async def flaky(x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0.01)
        if len(runs) == 1:
            raise OSError("down")
        return x

    marked = step_of(flaky, "tool", "convert")

    async def main() -> list[Any]:
        return await asyncio.gather(marked(1), marked(1), marked(1), return_exceptions=True)

    with rollout(tools=modes("record")):
        first, *rest = asyncio.run(main())
    assert isinstance(first, OSError) and rest == [1, 1] and len(runs) == 2


def test_a_recorded_tool_may_call_itself() -> None:
    depth: list[int] = []

    def again(x: int) -> int:
        depth.append(x)
        return x if len(depth) == 3 else marked(x)

    marked = step_of(again, "tool", "convert")
    with rollout(tools=modes("record")):
        assert marked(1) == 1
    assert len(depth) == 3


@pytest.mark.parametrize("mode", ["stub", "record", "replay"])
@pytest.mark.parametrize("way", WAYS)
def test_after_its_rollout_a_tool_with_a_mode_touches_nothing(way: str, mode: str) -> None:
    counter, convert = tool(way)
    scope = Scope("helper", recorder=Recorder(), tools=modes(mode))
    scope.close()
    with entered(scope), pytest.raises(RolloutStopped):
        called(convert, 1)
    assert counter.num_runs == 0 and scope.num_late_calls == 1


@pytest.mark.parametrize("way", WAYS)
def test_after_its_rollout_a_live_tool_just_runs(way: str) -> None:
    _, convert = tool(way)
    scope = Scope("helper", recorder=Recorder())
    scope.close()
    with entered(scope):
        assert called(convert, 1) == expected(way)
    assert scope.recorder is not None and scope.recorder.steps() == []


def test_modes_are_read_from_words_and_mappings() -> None:
    given = {"a": "stub", "b": {"mode": "record/replay"}, "c": {"returns": 3}, "d": {"mode": "live"}}
    assert parse_modes(given) == {
        "a": ToolMode("stub"),
        "b": ToolMode("record"),
        "c": ToolMode("stub", 3),
        "d": ToolMode("live"),
    }
    assert parse_modes(None) == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"a": "stab"}, "tools.a: unknown mode 'stab'. Did you mean 'stub'"),
        ({"a": 3}, "tools.a: a mode"),
        ({"a": {"mode": "stub", "return": 1}}, "tools.a: unknown key 'return'"),
        ({"a": {"mode": None}}, "unknown mode None"),
        ({"a": {1: 2, "mode": "live"}}, "unknown key '1'"),
    ],
)
def test_a_wrong_mode_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")):
        parse_modes(given)


def test_a_tape_of_earlier_steps_answers_their_calls() -> None:
    _, convert = tool("sync")
    with rollout() as recorder:
        convert(1, unit="F")
    tape = Tape()
    for seen in recorder.steps():
        assert isinstance(seen, Step) and seen.name is not None
        tape.put(seen.name, seen.arguments, seen.result)
    with rollout(tools=modes("replay", tape)):
        assert convert(unit="F", x=1) == "1 F"
    assert ("convert", {"x": 1, "unit": "F"}) in tape and ("convert", {"x": 1}) not in tape
