"""What may be set: each section of the configuration, what its keys mean, and what they are when nobody sets them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from agentlightning.errors import near_miss

PathText = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]
"""A path as text; `pathlib.Path` is taken too."""


class Section(BaseModel):
    """A part of the tree: frozen, exact about types, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    expected: ClassVar[str] = "a mapping (key: value)"
    """What to write, for whoever wrote something else."""
    refused: ClassVar[dict[str, str]] = {}
    """Keys somebody will try, and why they are not taken."""


ToolMode = Literal["live", "stub", "record", "replay"]
CarryOn = Literal["if_better", "if_not_worse", "always"]


class ToolSection(Section):
    """What calls of a tool do inside rollouts."""

    expected: ClassVar[str] = "live, stub, record, replay, or {mode: …, returns: …}"

    mode: ToolMode
    """`live` runs it, `stub` answers without running it, `record` runs it once for each set of arguments and answers
    repeats from memory, `replay` only answers from memory."""
    returns: Any = None
    """What a stub answers."""


def tool_long_form(value: Any) -> Any:
    """A mode as the mapping it stands for; anything else as it is."""
    return {"mode": value} if isinstance(value, str) else value


Tool = Annotated[ToolSection, BeforeValidator(tool_long_form, json_schema_input_type=ToolMode | ToolSection)]


class AgentSection(Section):
    """Which agent, and how it is run."""

    type: str | None = None
    """Framework or SDK the agent is built on, such as `openai_sdk` or `function`. Detected when not given."""
    path: PathText | None = None
    """Where the agent is: `file.py`, `file.py:object` or `package.module:object`; with type `process`, the command that
    starts it: `node agent.js`."""
    target_agents: list[str] | None = None
    """Names of the agents to optimise; the others stay as they are. All of them when not given."""
    timeout_seconds: PositiveFloat | None = None
    """For one rollout of this agent. `trainer.timeout_seconds` when not given."""
    tools: dict[str, Tool] = {}
    """Tool name → mode, or mode and answer. `live` for tools not named here."""

    set_up: str | None = None
    """Called before every rollout: `file.py:function` or `package.module:function`, of the task or of nothing."""
    tear_down: str | None = None
    """Called after every rollout, however it ended; named as `set_up`."""

    def tool_specs(self) -> dict[str, Any]:
        """Only what was set, as `interception.tools.parse_modes` takes it."""
        return {name: tool.model_dump(exclude_unset=True) for name, tool in self.tools.items()}


class RewardPart(Section):
    """One reward, with its settings; several make a weighted sum."""

    name: str
    """A known reward (`agentlightning plugins` lists them), `file.py:function` or `package.module:function`."""
    weight: float | None = None
    """What it counts in the sum; negative for a penalty. When no part says, each of n counts 1/n."""
    params: dict[str, Any] = {}
    """Settings of the reward, checked by the reward itself."""


def reward_long_form(value: Any) -> Any:
    """Rewards as the list of mappings they stand for; a name alone, and anything else, as it is."""
    if not isinstance(value, dict | list | tuple):
        return value
    entries = [value] if isinstance(value, dict) else cast(list[Any], value)
    return [{"name": entry} if isinstance(entry, str) else entry for entry in entries]


def _reward(value: Any) -> Any:
    """A name, or the parts of a weighted sum."""
    if value is None or (isinstance(value, str) and value):
        return value
    parts = reward_long_form(value)
    if not isinstance(parts, list) or not parts:
        raise ValueError("must be the name of a reward, {name: …, weight: …, params: {…}}, or a list of these.")
    try:
        return TypeAdapter(list[RewardPart]).validate_python(parts)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        number, *rest = found["loc"]
        key = str(rest[0]) if rest else ""
        hint = near_miss(key, RewardPart.model_fields) or " Settings of the reward itself go under 'params'."
        unknown = f"has an unknown key {key!r}.{hint}"
        said = unknown if found["type"] == "extra_forbidden" else f"{key}: {found['msg']}."
        raise ValueError(f"part {int(number) + 1} {said}") from error


RewardSetting = Annotated[
    Any, BeforeValidator(_reward, json_schema_input_type=str | RewardPart | list[str | RewardPart] | None)
]


class Caps(Section):
    """Hard caps; what has them ends, keeping its best, when one is reached."""

    usd: PositiveFloat | None = None
    """Money in US dollars, by the price table and `prices`."""
    calls: PositiveInt | None = None
    """Model calls, the agent's and ours together."""
    task_calls: PositiveInt | None = None
    """Model calls of the agent."""
    optimizer_calls: PositiveInt | None = None
    """Model calls of the optimiser and the judge."""
    tokens: PositiveInt | None = None
    """In and out, of all calls."""
    minutes: PositiveFloat | None = None
    """Of wall-clock time."""

    def caps(self) -> dict[str, float]:
        """The caps that were set, by the names `budget.Limits` has for them."""
        return self.model_dump(include=set(Caps.model_fields), exclude_none=True)


class Stage(Section):
    """One algorithm in the sequence of a run."""

    expected: ClassVar[str] = "the name of an algorithm, or {name: …, params: {…}}"

    name: str
    """A known algorithm (`agentlightning plugins` lists them) or your own as `package.module:Class`."""
    params: dict[str, Any] = {}
    """Settings of the algorithm, checked by the algorithm itself."""
    agents: list[str] | None = None
    """Which of the target agents this stage optimises. All of them when not given."""
    reward_function: RewardSetting = None
    """What this stage maximises, written like `reward`. May also stand in `params`."""
    budget: Caps | None = None
    """Caps of this stage alone, beside those of the run. It ends with its best when one is reached."""
    carry_on: CarryOn = "if_better"
    """When what it found is what the next stage begins with, and is tested at the end; measured on validation tasks."""
    group: str | None = None
    """Stages with the same group run at the same time, each for `agents` of its own; or `{parallel: [stage, …]}`."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        name, params = next(iter(data.items()), ("", ""))
        if len(data) == 1 and name not in cls.model_fields and isinstance(params, dict | None):
            raise ValueError(f"write it as  {{name: {name}, params: {{…}}}}")
        params = data.get("params")
        if not isinstance(params, dict) or "reward_function" not in params:
            return data
        named = params["reward_function"]
        if data.get("reward_function", named) != named:
            raise ValueError("reward_function stands twice, here and in params, with different values.")
        rest = {key: value for key, value in params.items() if key != "reward_function"}
        return {**data, "params": rest, "reward_function": named}


class TrainerSection(Section):
    """How the run goes."""

    max_epochs: PositiveInt = 3
    """Passes of each algorithm over the training tasks."""
    distributed: bool = False
    """Train weights in several processes. Prompt optimisation is not affected."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs to train weights on."""
    max_in_flight: PositiveInt = 16
    """Rollouts running at the same time. Fewer for a while when the provider answers 429 (too many requests)."""
    calls_per_minute: PositiveFloat | None = None
    """Of the agent's model, where its rate limit is known: no rollout begins before there is room for it."""
    tokens_per_minute: PositiveFloat | None = None
    """The same for tokens, in and out."""
    timeout_seconds: PositiveFloat = 120.0
    """Per rollout. Enough for a chat agent; raise it for a coding agent."""
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a rollout is tried again when the model's service failed (not when the agent did)."""
    seed: int = 0
    """Of everything drawn by chance: the split of the tasks, their order, the search."""
    data_dir: PathText = "./trajectory_data"
    """Where trajectories and everything else the run does are kept, unless `store` says otherwise."""
    output_dir: PathText = "./optimized_results"
    """Where the optimised policy and the report are written."""
    progress: Literal["auto", "rich", "plain", "jsonl", "off"] = "auto"
    """What is shown of the run: bars (`rich`), lines (`plain`), one JSON object a line on standard output (`jsonl`), or
    nothing. `auto`: bars on a terminal, lines elsewhere."""
    isolation: Literal["thread", "process"] = "thread"
    """What a rollout runs in. `process`: a worker process that loads the agent by itself, for agents that keep a
    processor busy, are not safe to run side by side, crash, or hang: a hung one is ended for real at its time-out."""
    num_workers: PositiveInt | None = None
    """Worker processes with `isolation: process`, and so rollouts at the same time. As many as processors when not
    given."""


def _task_source(value: Any) -> Any:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, list) and value and all(isinstance(task, str | dict) for task in cast(list[Any], value)):
        return cast(Any, value)
    raise ValueError("must be the path of a task file, or a list of tasks (each a text, or a mapping with 'input').")


TaskSource = Annotated[Any, BeforeValidator(_task_source, json_schema_input_type=str | list[str | dict[str, Any]])]
"""The path of a task file, or the tasks themselves."""


class TaskSection(Section):
    """The tasks. What is not given is taken from `train`; `none` does without it."""

    expected: ClassVar[str] = "a task file, a list of tasks, or {train: …, validation: …, test: …}"

    train: TaskSource
    """What the algorithms learn from. `live`: what the agent was asked in real use (docs/live.md)."""
    validation: TaskSource = None
    """What candidates are chosen by. `none`: by the training tasks themselves."""
    test: TaskSource = None
    """What the result is measured on, once, at the end. `none`: it is not measured."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, dict):  # a key with nothing after it says `none`, a key left out says nothing
            return {key: "none" if value is None and key != "train" else value for key, value in data.items()}
        return data


def _variable_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise ValueError("must be the NAME of an environment variable, such as OPENAI_API_KEY, not the key itself.")
    return name


class ModelSection(Section):
    """A model: its name, or its name with where and how it is called."""

    expected: ClassVar[str] = "the name of a model, or {model: …, base_url: …}"

    model: str
    """The name the endpoint knows it by, or a path for a model of your own."""
    dialect: Literal["chat", "responses", "messages", "ollama"] | None = None
    """What is spoken there. Messages at Anthropic's address and for `claude-…`, chat completions elsewhere."""
    base_url: str | None = None
    """The endpoint, up to and including its version (`http://localhost:8000/v1`); Ollama's native API has none."""
    api_key_env: Annotated[str, AfterValidator(_variable_name)] | None = None
    """Name of the environment variable that holds the key. The SDK's usual one when not given."""
    api_version: str | None = None
    """Makes it an Azure endpoint."""
    headers: dict[str, str] = {}
    """Sent with every request. Their values are masked wherever the configuration is kept."""
    path: str | None = None
    """Posted to, below `base_url`. The dialect's own (`/chat/completions`) when not given."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    """Left to the model when not given."""
    max_tokens: PositiveInt | None = None
    """Of one answer."""
    seed: int | None = None
    """Sent with every request, for endpoints that then repeat their answers."""

    refused: ClassVar[dict[str, str]] = {
        "api_key": "a key must not stand in a configuration, which is kept with every run. Put it into an environment "
        "variable and write that one's name, such as  api_key_env: OPENAI_API_KEY"
    }

    def spec(self) -> dict[str, Any]:
        """Only what was set, as `models.Endpoint.from_spec` takes it."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


def model_long_form(value: Any) -> Any:
    """A model's name as the mapping it stands for; anything else as it is."""
    return {"model": value} if isinstance(value, str) else value


Model = Annotated[ModelSection, BeforeValidator(model_long_form, json_schema_input_type=str | ModelSection)]


class ModelsSection(Section):
    """Models by what they are for."""

    task: Model | None = None
    """Sent by the agent instead of the model it asks for."""
    optimizer: Model | None = None
    """Writes better prompts. The agent's own model when not given."""
    judge: Model | None = None
    """Scores answers that nothing else can score. The agent's own model when not given."""
    policy: Model | None = None
    """Whose weights are trained."""


class StoreSection(Section):
    """Where records are kept, and what of them."""

    expected: ClassVar[str] = "a folder or an address, or {address: …, mask_personal_data: true}"

    address: PathText | None = None
    """A folder, `sqlite:///…`, or another back end's address. `trainer.data_dir` if not given."""
    mask_personal_data: bool = False
    """Write placeholders such as `[email_1]` for e-mail and IP addresses, phone and card numbers and IBANs. Algorithms
    and the optimiser model see the placeholders too; rewards are given before. Names and streets are not found."""
    durability: Literal["process", "power"] = "process"
    """What a write that returned survives: a killed process, or also a power cut, which costs a flush each time."""


def store_long_form(value: Any) -> Any:
    """A store's address as the mapping it stands for; anything else as it is."""
    return {"address": os.fspath(value)} if isinstance(value, str | os.PathLike) else value


class TrackerSection(Section):
    """An experiment tracker that hears of the run."""

    expected: ClassVar[str] = "the name of a tracker, or {name: …, params: {…}}"

    name: str
    """A known tracker (`agentlightning plugins` lists them) or your own as `package.module:Class`."""
    params: dict[str, Any] = {}
    """Settings of the tracker, such as `project`; docs/tracking.md lists them."""


def trackers_long_form(value: Any) -> Any:
    """A tracker, its name, or a list of both, as the list of mappings it stands for."""
    return stages_long_form(value)


class Price(Section):
    """US dollars per million tokens."""

    input: Annotated[float, Field(ge=0)]
    """Of tokens sent."""
    output: Annotated[float, Field(ge=0)]
    """Of tokens received."""
    cached: Annotated[float, Field(ge=0)] | None = None
    """Input tokens the provider had read before. The price of input when not given."""


class BudgetSection(Caps):
    """Hard caps; the run ends, keeping its best, when one is reached."""

    prices: dict[str, Price] = {}
    """Model name → price, for models that the built-in table does not know or knows wrongly."""

    def price_overrides(self) -> dict[str, tuple[float, float, float]]:
        """Model name → (input, cached, output), as `models.Ledger` takes them."""
        cached = {name: p.input if p.cached is None else p.cached for name, p in self.prices.items()}
        return {name: (p.input, cached[name], p.output) for name, p in self.prices.items()}


def stages_long_form(value: Any) -> Any:
    """An algorithm, a name, or a list of both, as the list of mappings it stands for."""
    entries = [value] if isinstance(value, str | dict) else value
    if not isinstance(entries, list | tuple):
        return entries
    stages: list[Any] = []
    for number, entry in enumerate(cast(Sequence[Any], entries), start=1):
        group = cast(Any, entry)["parallel"] if isinstance(entry, dict) and entry.keys() == {"parallel"} else None
        if isinstance(group, list):
            stages += [_named(stage) | {"group": f"parallel-{number}"} for stage in cast(list[Any], group)]
        else:
            stages.append(_named(entry))
    return stages


def _named(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry


def tasks_long_form(value: Any) -> Any:
    """A task file or a list of tasks as the mapping it stands for."""
    value = list(value) if isinstance(value, tuple) else value
    return {"train": value} if isinstance(value, str | list | os.PathLike) else value
