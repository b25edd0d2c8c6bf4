"""Running what LangChain and LangGraph call runnables: chains, models, `create_agent` agents, compiled graphs.

A task's text becomes the input the runnable asks for, its answer becomes text again. Runnables hold no state of a run,
so one object serves many rollouts; graphs that remember get a thread id of their own for each.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from agentlightning.adapters.base import ObjectAdapter, loaded
from agentlightning.adapters.runnable_hooks import AGENT_MARK, speaker_in
from agentlightning.data.structure import END, START, Link, Member, Structure, in_turn
from agentlightning.errors import AgentError, near_miss

_TEXT_KEYS = ("input", "question", "query", "task", "text", "prompt")
_ANSWER_KEYS = ("output", "answer", "result", "response", "final_answer", "text")
_INGREDIENTS = (
    "langchain_core.prompts.base.BasePromptTemplate",
    "langchain_core.tools.base.BaseTool",
    "langchain_core.output_parsers.base.BaseLLMOutputParser",
    "langchain_core.retrievers.BaseRetriever",
)


class RunnableAdapter(ObjectAdapter):
    """Anything with LangChain's `invoke`."""

    entry_points = ("invoke", "ainvoke", "stream", "astream", "batch", "abatch", "astream_events", "stream_events")

    @classmethod
    def is_mine(cls, thing: Any) -> bool:
        return is_runnable(thing)

    @classmethod
    def is_seldom_alone(cls, thing: Any) -> bool:
        return isinstance(thing, tuple(loaded("langchain_core.language_models.base.BaseLanguageModel")))

    def label(self) -> str:
        config: Mapping[str, Any] = getattr(self.sample, "config", None) or {}
        named = (config.get("metadata") or {}).get("lc_agent_name") or getattr(self.sample, "name", None)
        if named and named not in ("LangGraph", "RunnableSequence"):
            return str(named)
        return "graph" if is_graph(self.sample) else "chain"

    def members(self) -> list[str]:
        return list(dict.fromkeys(_members(self.sample)))

    def parts(self) -> list[Any]:
        return [part for part in _inside(self.sample) if part is not self.sample]

    def tools(self) -> Mapping[str, str]:
        return {tool.name: str(tool.description) for part in _inside(self.sample) for tool in _tools_of(part)}

    def structure(self) -> Structure:
        names = self.members() or [self.label()]
        links = (
            list(_edges(self.sample)) if is_graph(self.sample) and not is_created_agent(self.sample) else in_turn(names)
        )
        prompts = _prompts(self.sample)
        members = [Member(name, instructions=prompts.get(name, "")) for name in names]
        return Structure(self.label(), f"{self.name} {type(self.sample).__name__}", members, links, dict(self.tools()))

    def run(self, instance: Any, task_input: str | dict[str, Any]) -> Any:
        given = input_of(instance, task_input)
        own = uuid.uuid4().hex
        config = {"configurable": {"thread_id": own, "session_id": own}}
        if needs_async(instance):
            return self._run_async(instance, given, config)
        return answer_of(instance.invoke(given, config), given)

    async def _run_async(self, instance: Any, given: Any, config: Any) -> Any:
        return answer_of(await instance.ainvoke(given, config), given)


def is_runnable(thing: Any) -> bool:
    """A runnable that can be an agent: not an ingredient of one (a prompt, a tool, a parser)."""
    kinds = tuple(loaded("langchain_core.runnables.base.Runnable"))
    return isinstance(thing, kinds) and not isinstance(thing, tuple(loaded(*_INGREDIENTS)))


def is_graph(thing: Any) -> bool:
    """A compiled graph of LangGraph."""
    return isinstance(thing, tuple(loaded("langgraph.pregel.main.Pregel", "langgraph.pregel.Pregel")))


def is_created_agent(thing: Any) -> bool:
    """A graph that `create_agent` made."""
    key, value = AGENT_MARK
    return is_graph(thing) and ((getattr(thing, "config", None) or {}).get("metadata") or {}).get(key) == value


def input_of(runnable: Any, task_input: str | dict[str, Any]) -> Any:
    """A task's input in the form the runnable takes. AgentError when a text does not say which field it is."""
    keys = _input_keys(runnable)
    if isinstance(task_input, dict):
        if keys and not set(keys) & task_input.keys():
            hint = near_miss(next(iter(task_input), ""), keys)
            raise AgentError(
                f"the task's input has {', '.join(map(repr, task_input))}, but the agent takes "
                f"{', '.join(map(repr, keys))}.{hint}"
            )
        return task_input
    if keys is None:
        return task_input
    if "messages" in keys:
        return {"messages": [{"role": "user", "content": task_input}]}
    may_be_partial = is_graph(runnable)  # a state fills up as the graph runs; a prompt needs all of its variables
    usual = next((name for name in _TEXT_KEYS if name in keys), None) if may_be_partial else None
    key = keys[0] if len(keys) == 1 else usual
    if key is None:
        raise AgentError(
            f"the agent takes {', '.join(map(repr, keys))}, and a task that is one text does not say which it is. "
            f"Give tasks as mappings: {{'input': {{{keys[0]!r}: …}}}}"
        )
    return {key: task_input}


def answer_of(result: Any, given: Any = None) -> Any:
    """The final answer in what a run gave: text where there is one, else the data it made."""
    if type(result).__module__.startswith("langchain_core.messages"):
        return _text_of(result)
    if not isinstance(result, dict):
        return result
    if (structured := result.get("structured_response")) is not None:
        return structured
    for key in _ANSWER_KEYS:
        if isinstance(result.get(key), str) and not (isinstance(given, dict) and key in given):
            return result[key]
    if isinstance(messages := result.get("messages"), list) and messages:
        return _text_of(messages[-1])
    made = {key: value for key, value in result.items() if not isinstance(given, dict) or key not in given}
    return answer_of(next(iter(made.values()))) if len(made) == 1 else made or result


def needs_async(runnable: Any) -> bool:
    """Has it a step or tool that only runs asynchronously?"""
    parts = list(_inside(runnable))
    return any(_is_async_only(part) for part in [*parts, *(tool for part in parts for tool in _tools_of(part))])


def _input_keys(runnable: Any) -> list[str] | None:
    """The fields it takes; None: one value, whatever it is."""
    if is_graph(runnable):
        schema = getattr(getattr(runnable, "builder", None), "input_schema", None)
        return list(get_type_hints(schema)) or None if schema is not None else None
    first = runnable
    while (inner := _first_of(first)) is not None:
        first = inner
    if is_graph(first):
        return _input_keys(first)
    keys = getattr(first, "input_variables", None) or getattr(first, "input_keys", None)
    return list(keys) if keys else _fields_asked_for(_loop_of(first) or runnable) or _keys_of_assigned(first)


def _fields_asked_for(runnable: Any) -> list[str] | None:
    """By its own schema: what it must be given, without what it assigns itself (an agent's scratchpad)."""
    fields = runnable.get_input_schema().model_fields
    return [name for name, field in fields.items() if field.is_required() and name != "root"] or None


def _keys_of_assigned(runnable: Any) -> list[str] | None:
    """What the agents inside `RunnablePassthrough.assign` take, when nothing else says it."""
    assigned = getattr(getattr(runnable, "mapper", None), "steps__", None) or {}
    return next(filter(None, map(_input_keys, assigned.values())), None)


def _loop_of(executor: Any) -> Any:
    """The runnable that an AgentExecutor asks again and again."""
    return getattr(getattr(executor, "agent", None), "runnable", None)


def _first_of(runnable: Any) -> Any:
    if isinstance(steps := getattr(runnable, "steps", None), list) and steps:
        return steps[0]
    return getattr(runnable, "bound", None) or getattr(runnable, "runnable", None)


def _inside(runnable: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """The runnable and everything runnable in it."""
    seen = set() if seen is None else seen
    if id(runnable) in seen:
        return
    seen.add(id(runnable))
    yield runnable
    for part in _parts_of(runnable):
        if is_runnable(part) or isinstance(part, tuple(loaded(*_INGREDIENTS))):
            yield from _inside(part, seen)


def _parts_of(runnable: Any) -> Iterator[Any]:
    """What its fields hold, in lists, tuples and mappings too; what its functions use; the nodes of a graph."""
    if is_graph(runnable):
        yield from (node.bound for node in runnable.nodes.values())
        return
    held = [*vars(runnable).values(), *(getattr(runnable, "deps", None) or []), _loop_of(runnable)]
    while held:
        value = held.pop(0)
        if isinstance(value, Mapping):
            held[:0] = value.values()
        elif isinstance(value, list | tuple):
            held[:0] = value
        else:
            yield value


def _members(runnable: Any) -> Iterator[str]:
    if name := _own_name(runnable):
        yield name
    elif is_graph(runnable) and not is_created_agent(runnable):
        for name, node in runnable.nodes.items():
            inner = [member for part in _inside(node.bound) if is_graph(part) for member in _members(part)]
            if not name.startswith("__"):
                yield from inner or [name]
    else:
        for part in _inside(runnable):
            if part is not runnable and (is_graph(part) or _loop_of(part) is not None):
                yield from _members(part)


def _edges(graph: Any) -> Iterator[Link]:
    """Of the graph as LangGraph draws it; a label says on what a way is taken."""
    ends = {"__start__": START, "__end__": END}
    for edge in graph.get_graph().edges:
        how = "then" if not edge.conditional else f"if {ends.get(edge.data) or edge.data}" if edge.data else "may go to"
        yield Link(ends.get(edge.source) or edge.source, ends.get(edge.target) or edge.target, how)


def _prompts(runnable: Any) -> dict[str, str]:
    """What executors are told, by their names; of a chain's only prompt, by the chain's."""
    loops = {part.name: _loop_of(part) for part in _inside(runnable) if _loop_of(part) is not None}
    return {name or "chain": _system_text(loop) for name, loop in (loops or {"chain": runnable}).items()}


def _system_text(runnable: Any) -> str:
    """The text of the first system message among its prompts."""
    for part in _inside(runnable):
        for message in getattr(part, "messages", None) or []:
            if type(message).__name__ == "SystemMessagePromptTemplate":
                return str(getattr(message.prompt, "template", ""))
            if getattr(message, "type", None) == "system":
                return str(message.content)
    return ""


def _own_name(runnable: Any) -> str | None:
    """The name by which it speaks: of an AgentExecutor its own, else what its metadata says."""
    if _loop_of(runnable) is not None:
        return runnable.name
    return speaker_in((getattr(runnable, "config", None) or {}).get("metadata") or {})


def _tools_of(part: Any) -> list[Any]:
    """The tools of a tool node or an agent executor, and of a model they are bound to none (those are schemas)."""
    by_name = getattr(part, "tools_by_name", None) or getattr(part, "tools", None) or []
    tools = by_name.values() if isinstance(by_name, Mapping) else by_name
    kinds = tuple(loaded("langchain_core.tools.base.BaseTool"))
    return (
        [tool for tool in tools if isinstance(tool, kinds)]
        if isinstance(tools, list | tuple | type({}.values()))
        else []
    )


def _is_async_only(part: Any) -> bool:
    sync, other = getattr(part, "func", None), getattr(part, "afunc", None) or getattr(part, "coroutine", None)
    return sync is None and other is not None


def _text_of(message: Any) -> Any:
    content: Any = message.get("content") if isinstance(message, dict) else getattr(message, "content", message)
    if isinstance(content, list):
        return "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in content)
    return content
