"""What learning produces and what a call is steered by: prompt sites, and the policy that fills them.

A policy is immutable and named by its content, so "which prompt was this rollout run with?" always has one answer.
`Policy.apply` is pure; interception calls it on every outgoing call of a steered agent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from functools import cached_property
from typing import Any, Literal, get_args

import msgspec

from agentlightning.data import template as templates
from agentlightning.data.call import Call, Message

SiteKind = Literal["system", "prefix", "tool"]
"""system: the system, developer or instructions text. prefix: the fixed part of the first user message, and of later
ones that have it too. tool: the description of one tool; its name and parameters are never touched."""
INSTRUCTING = ("system", "developer")
_PART_END = "⟦¶⟧"
"""Stands in a text where one part of its message ends and the next begins."""
_AT_PART_END = re.compile(rf"\n?{_PART_END}\n?")
MESSAGE_KINDS: tuple[SiteKind, ...] = ("system", "prefix")
"""The kinds that stand in messages."""
SlotType = Literal["text", "number", "date", "time", "id", "list", "json"]


class Slot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of the instruction text that varies from call to call and must survive every edit."""

    name: str
    type: SlotType = "text"
    examples: list[str] = []


class PromptSite(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place where instruction text enters a call. An empty template means: a system message may be inserted."""

    id: str
    agent: str
    kind: SiteKind
    template: str
    slots: list[Slot] = []
    coverage: float | None = None
    """Share of calls, on tasks the template was not learned from, that it matches."""
    num_observed: int = 0
    tool: str = ""
    """Whose description it is, at a site of kind tool."""


class Demo(msgspec.Struct, frozen=True):
    """A worked example shown to the model as one user turn and its answer."""

    input: str
    output: str


class Applied(msgspec.Struct, frozen=True):
    """A steered call, and which sites did and did not take."""

    call: Call
    steered: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()


class Policy(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """Everything applied at call time. The empty policy is the original agent."""

    prompts: dict[str, str] = {}
    """Site id → the text that replaces the site's template, its slots written as markers."""
    sites: list[PromptSite] = []
    """The sites those texts belong to: a saved policy steers without a store."""
    demos: dict[str, list[Demo]] = {}
    """Agent → examples inserted after its instructions."""
    models: dict[str, str] = {}
    """Agent → model name sent instead of the agent's own."""
    sampling: dict[str, dict[str, Any]] = {}
    """Agent → request parameters that override the agent's own."""
    weights: dict[str, str] = {}
    """Agent → version of the weights (see `engine.base`) that answer its calls."""

    @cached_property
    def id(self) -> str:
        """`original` for the empty policy, else a content hash such as `p-1f0c9a7d52e4`."""
        if self.is_original:
            return "original"
        known = {site.id: site.template for site in self.sites if site.id in self.prompts}
        content = [self.prompts, known, self.demos, self.models, self.sampling]
        if self.weights:
            content.append(self.weights)
        return f"p-{hashlib.sha256(msgspec.json.encode(content, order='deterministic')).hexdigest()[:12]}"

    @property
    def is_original(self) -> bool:
        return not (self.prompts or self.demos or self.models or self.sampling or self.weights)

    def site(self, site_id: str) -> PromptSite:
        """The site of that id; KeyError when the policy does not know it."""
        for site in self.sites:
            if site.id == site_id:
                return site
        raise KeyError(site_id)

    def text_at(self, site: PromptSite) -> str:
        """What stands at a site under this policy: the replacement, or the template itself."""
        return self.prompts.get(site.id, site.template)

    def with_prompt(self, site: PromptSite, text: str) -> Policy:
        """A policy with `text` at `site`; the site's own template there removes the entry again."""
        prompts = {key: value for key, value in self.prompts.items() if key != site.id}
        if text != site.template:
            prompts[site.id] = text
        known = [entry for entry in self.sites if entry.id != site.id]
        return msgspec.structs.replace(self, prompts=prompts, sites=[*known, site])

    def with_demos(self, agent: str, demos: list[Demo]) -> Policy:
        """A policy that shows `demos` to one agent; an empty list removes them."""
        rest = {key: value for key, value in self.demos.items() if key != agent}
        return msgspec.structs.replace(self, demos=rest | ({agent: demos} if demos else {}))

    def with_weights(self, agent: str, version: str) -> Policy:
        """A policy whose `agent` is answered by a version of its weights; "" is the base model again."""
        rest = {key: value for key, value in self.weights.items() if key != agent}
        return msgspec.structs.replace(self, weights=rest | ({agent: version} if version else {}))

    def taking(self, other: Policy, agents: Collection[str]) -> Policy:
        """This policy, with everything that `other` says of some agents in the place of what this one says of them."""
        mine, theirs = _said_of(self, agents, is_inside=False), _said_of(other, agents, is_inside=True)
        return Policy(**{key: mine[key] | theirs[key] for key in mine}, sites=_sites_of_both(self, other))

    def apply(self, call: Call) -> Applied:
        """The call as this policy wants it sent. Sites that do not match leave their text untouched and are named.

        Of several sites that match one message, the one with the most constant text owns it.
        """
        agent, messages, tools = call.agent, call.messages, call.tools
        steered: list[str] = []
        missed: list[str] = []
        for kind, known in self._replaced.get(agent, ()):
            if kind == "tool":
                tools = [self._described(tool, known, steered, missed) for tool in tools]
                continue
            for site in known:
                if (changed := _steer(messages, site, self.text_at(site))) is None:
                    continue
                if site.id in self.prompts:
                    messages = changed if kind == "system" else self._later_turns(changed, known)
                    steered.append(site.id)
                break
            else:
                missed += [site.id for site in known if site.id in self.prompts]
        if demos := self.demos.get(agent):
            messages = _insert_demos(messages, demos)
        params = call.params | self.sampling[agent] if agent in self.sampling else call.params
        model = self.models.get(agent, call.model)
        return Applied(Call(agent, model, messages, tools, params, call.stream), tuple(steered), tuple(missed))

    def _later_turns(self, messages: list[Message], known: list[PromptSite]) -> list[Message]:
        """The same for the user's later turns: an agent that puts what is asked into a text does so every time."""
        first = instruction_index(messages, "prefix")
        return [
            message if first is None or index <= first or message.get("role") != "user" else self._turn(message, known)
            for index, message in enumerate(messages)
        ]

    def _turn(self, message: Message, known: list[PromptSite]) -> Message:
        if (current := editable_text(message)) is None:
            return message
        for site in known:
            if (values := templates.match(site.template, current)) is not None:
                return _with_text(message, self._filled(site, values)) if site.id in self.prompts else message
        return message

    def _described(
        self, tool: dict[str, Any], sites: list[PromptSite], steered: list[str], missed: list[str]
    ) -> dict[str, Any]:
        name, told = tool_name(tool), tool_description(tool)
        mine = [site for site in sites if site.tool == name]
        for site in mine:
            if (values := templates.match(site.template, told)) is None:
                continue
            if site.id not in self.prompts:
                return tool
            steered.append(site.id)
            return {**tool, "function": {**tool["function"], "description": self._filled(site, values)}}
        missed += [site.id for site in mine if site.id in self.prompts]
        return tool

    def _filled(self, site: PromptSite, values: dict[str, str]) -> str:
        return templates.render(self.prompts[site.id], values)

    @cached_property
    def _replaced(self) -> dict[str, list[tuple[SiteKind, list[PromptSite]]]]:
        """Agent → all its sites of each kind of which at least one is replaced, the longest template first."""
        found: dict[str, list[tuple[SiteKind, list[PromptSite]]]] = {}
        for agent in dict.fromkeys(site.agent for site in self.sites):
            for kind in get_args(SiteKind):
                known = [site for site in self.sites if site.kind == kind and site.agent == agent]
                if any(site.id in self.prompts for site in known):
                    known.sort(key=lambda site: -templates.constant_length(site.template))
                    found.setdefault(agent, []).append((kind, known))
        return found


def _said_of(policy: Policy, agents: Collection[str], *, is_inside: bool) -> dict[str, dict[str, Any]]:
    """What a policy says, field by field, of the agents named (or of all others)."""
    owner = {site.id: site.agent for site in policy.sites}
    prompts = {key: text for key, text in policy.prompts.items() if (owner[key] in agents) is is_inside}
    fields = {"demos": policy.demos, "models": policy.models, "sampling": policy.sampling, "weights": policy.weights}
    said = {name: {a: v for a, v in held.items() if (a in agents) is is_inside} for name, held in fields.items()}
    return {"prompts": prompts, **said}


def _sites_of_both(one: Policy, other: Policy) -> list[PromptSite]:
    return list({site.id: site for site in (*one.sites, *other.sites)}.values())


def instruction_index(messages: list[Message], kind: SiteKind) -> int | None:
    """Where the message of a site kind stands: the first system/developer message, or the first user message."""
    roles = INSTRUCTING if kind == "system" else ("user",)
    for index, message in enumerate(messages):
        if message.get("role") in roles:
            return index
    return None


def tool_name(tool: dict[str, Any]) -> str:
    """The name of a function; empty for a tool of another kind, which has no description of its own."""
    function = tool.get("function")
    return str(function.get("name") or "") if isinstance(function, dict) else ""


def tool_description(tool: dict[str, Any]) -> str:
    """What a function is said to do; empty when nothing is."""
    function = tool.get("function")
    told: Any = function.get("description") if isinstance(function, dict) else None
    return told if isinstance(told, str) else ""


def editable_text(message: Message) -> str | None:
    """The text of a message, or None when it has none (images may stand beside it).

    Several texts of instructions count as one, a paragraph each: nothing stands between them there. A user's texts, and
    those with something between them, keep their places: a mark tells where one ends, and is a slot like any other.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part["text"] for part in content if _has_text(part)]
        if any(_PART_END in text for text in texts):
            return None
        return ("\n\n" if _are_one_text(message) else f"\n{_PART_END}\n").join(texts) if texts else None
    return None


def _are_one_text(message: Message) -> bool:
    return message.get("role") in INSTRUCTING and all(map(_has_text, message["content"]))


def _steer(messages: list[Message], site: PromptSite, text: str) -> list[Message] | None:
    index = instruction_index(messages, site.kind)
    if site.kind == "system" and not site.template.strip():
        return [{"role": "system", "content": text}, *messages] if index is None else None
    if index is None or (current := editable_text(messages[index])) is None:
        return None
    values = templates.match(site.template, current)
    if values is None:
        return None
    changed = _with_text(messages[index], templates.render(text, values))
    return [*messages[:index], changed, *messages[index + 1 :]]


def _with_text(message: Message, text: str) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": text}
    if len(content) > 1 and _are_one_text(message):
        # The last part's own fields are kept: a cache mark there holds for all the text before it.
        return {**message, "content": [{**content[-1], "text": text}]}
    texts = iter(_AT_PART_END.split(text))
    return {**message, "content": [{**part, "text": next(texts)} if _has_text(part) else part for part in content]}


def _has_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _insert_demos(messages: list[Message], demos: list[Demo]) -> list[Message]:
    start = 0
    while start < len(messages) and messages[start].get("role") in ("system", "developer"):
        start += 1
    turns: list[Message] = []
    for demo in demos:
        turns += ({"role": "user", "content": demo.input}, {"role": "assistant", "content": demo.output})
    return [*messages[:start], *turns, *messages[start:]]
