"""The configuration of a run: one typed tree from a file (and what it extends), the environment and overrides.

They are laid over each other in that order, `${NAME}` is filled in, and the whole is checked once, here;
`config_sections` says what each key means.
Editors complete and check the file when its first line is

    # yaml-language-server: $schema=<path of agentlightning/trainer/config.schema.json>
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError

from agentlightning.errors import ConfigError, DataError, MissingExtra
from agentlightning.trainer.config_engine import EngineSection, engine_long_form
from agentlightning.trainer.config_layers import Layers, layers_of, read_layers
from agentlightning.trainer.config_overrides import Setting, apply_setting, from_environment, from_overrides, key_path
from agentlightning.trainer.config_sections import (
    AgentSection,
    BudgetSection,
    ModelsSection,
    PathText,
    RewardSetting,
    Section,
    Stage,
    StoreSection,
    TaskSection,
    TrackerSection,
    TrainerSection,
    model_long_form,
    reward_long_form,
    stages_long_form,
    store_long_form,
    tasks_long_form,
    trackers_long_form,
)
from agentlightning.trainer.config_variables import Written, as_written, escaped, fill_in, is_whole, names_only
from agentlightning.trainer.config_words import dotted, problems
from agentlightning.trainer.config_yaml import KeyPath, parse_scalar
from agentlightning.trainer.tasks import LIVE

_FROM_TEXT = ("int_type", "float_type", "bool_type")
"""What pydantic says of a text where a number, or true or false, should stand."""


class Places:
    """Where each key was written. No part of what a configuration says: two that say the same are equal."""

    def __init__(self, of: Callable[[KeyPath], str | None]) -> None:
        self.of = of

    def without(self, replaced: Set[KeyPath]) -> Places:
        """Those of keys that were not set in Python since."""
        return Places(
            lambda path: None if any(path[: len(k)] == k or k[: len(path)] == path for k in replaced) else self.of(path)
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class Config(Section):
    """Everything one run is told. All keys are optional."""

    extends: PathText | None = None
    """Another configuration file that this one is laid over; its path starts at this file's folder."""
    agent: AgentSection = AgentSection()
    algorithm: Annotated[
        list[Stage], BeforeValidator(stages_long_form, json_schema_input_type=str | Stage | list[str | Stage])
    ] = Field(default_factory=list[Stage])
    """One algorithm or several, run in this order. What the agent was wrapped with, else `apo`, when not given."""
    trainer: TrainerSection = TrainerSection()
    tasks: Annotated[
        TaskSection | None,
        BeforeValidator(tasks_long_form, json_schema_input_type=str | list[str | dict[str, Any]] | TaskSection | None),
    ] = None
    """A task file, a list of tasks, or one of these for each split. Found in the agent's file when not given."""
    reward: RewardSetting = None
    """A known reward, `file.py:function` or `package.module:function`; one with settings, or a weighted sum of some."""
    models: ModelsSection = ModelsSection()
    engine: Annotated[EngineSection, BeforeValidator(engine_long_form, json_schema_input_type=str | EngineSection)] = (
        EngineSection()
    )
    """What samples from and trains `models.policy`."""
    store: Annotated[StoreSection, BeforeValidator(store_long_form, json_schema_input_type=str | StoreSection)] = (
        StoreSection()
    )
    """Where everything a run does is kept: a folder, an address (`postgresql://…`), or a mapping that says more."""
    budget: BudgetSection = BudgetSection()
    trackers: Annotated[
        list[TrackerSection],
        BeforeValidator(trackers_long_form, json_schema_input_type=str | TrackerSection | list[str | TrackerSection]),
    ] = Field(default_factory=list[TrackerSection])
    """Experiment trackers that hear of the run: `tensorboard`, `mlflow`, `wandb`, `trackio`, or your own."""

    _base_dir: Path = PrivateAttr(default_factory=Path.cwd)
    _written: Written = PrivateAttr(default_factory=dict)
    _places: Places = PrivateAttr(default_factory=lambda: Places(lambda path: None))

    @property
    def base_dir(self) -> Path:
        """Where relative paths start, those of defaults and overrides too: the file's folder, else the current one."""
        return self._base_dir

    def at(self, base_dir: Path, written: Written | None = None, places: Places | None = None) -> Config:
        """The same configuration with its relative paths starting at another folder; `written` as `fill_in` gave it."""
        moved = self.model_copy()
        moved._base_dir = base_dir
        moved._written = self._written if written is None else written
        moved._places = self._places if places is None else places
        return moved

    @contextmanager
    def naming(self, *path: str | int) -> Generator[None]:
        """An error about what a key names, found in this block, begins with where the key was written."""
        try:
            yield
        except (ConfigError, DataError, MissingExtra) as error:
            place = self._places.of(path)
            if place is None or str(error).startswith(place):
                raise
            raise type(error)(f"{place}: {error}") from error.__cause__

    def path_to(self, path: str) -> Path:
        """A path of this configuration as an absolute one."""
        return self.base_dir / Path(path).expanduser()

    def store_address(self) -> str:
        """What `open_store` takes: the configured address, a folder as an absolute path; by default `data_dir`."""
        address = self.store.address
        if address and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", address):
            return address
        return str(self.path_to(address or self.trainer.data_dir))

    def task_sources(self) -> dict[str, Any] | None:
        """What `load_task_splits` takes, its paths absolute, and `live` as it is; None when none are configured."""
        if self.tasks is None:
            return None
        given = {split: source for split, source in self.tasks if source is not None}
        is_path = {split: isinstance(source, str) and source not in ("none", LIVE) for split, source in given.items()}
        return {split: self.path_to(source) if is_path[split] else source for split, source in given.items()}

    def to_dict(self) -> dict[str, Any]:
        """The effective configuration as plain data that `config_from` reads back, passwords and headers masked.

        What came from a `${NAME}` stands here as it was written, so no secret of the environment is kept.
        """
        return cast(dict[str, Any], _masked(as_written(self.model_dump(exclude_none=True), self._written)))

    def replace(self, values: Mapping[str, Any]) -> Config:
        """This configuration with some keys set: `{"trainer.max_epochs": 5}`. Raises ConfigError like any other."""
        settings = [Setting(key_path(key), value, key) for key, value in values.items()]
        changed = _validated(Layers("", self.model_dump(exclude_none=True), {}), settings, self._written)
        return changed.at(self.base_dir, self._written, self._places.without({setting.path for setting in settings}))


def load_config(path: str | Path | None, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Config:
    """The configuration of a .yaml, .toml or .json file, the environment laid over it and `overrides` over both.

    Without a file there are only those two, and paths start at the working directory.

    An override is `key.path=value`, the value read as YAML (`algorithm.0.params.beam=4`, `tasks.test=none`); so is an
    environment variable's value. `env` is `os.environ` when not given. Raises ConfigError naming file, line and key.
    """
    env = os.environ if env is None else env
    settings = [*from_environment(env), *from_overrides(overrides)]
    if path is None:
        return _build(layers_of({}, Path.cwd()), settings, Path.cwd(), env)
    return _build(read_layers(path), settings, Path(path).expanduser().resolve().parent, env)


def config_from(data: Mapping[str, Any], base_dir: Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """The configuration of plain Python data of the file's shape: `${NAME}` and `extends` mean what they mean there.

    `AGENTLIGHTNING_…` variables are not laid over it. Raises ConfigError.
    """
    base_dir = base_dir or Path.cwd()
    return _build(layers_of(data, base_dir), [], base_dir, os.environ if env is None else env)


def config_schema() -> dict[str, Any]:
    """JSON Schema of the file, short forms included; `config.schema.json` beside this module is a copy of it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _build(layers: Layers, settings: Sequence[Setting], base_dir: Path, env: Mapping[str, str]) -> Config:
    data = _long_form(layers.data)
    if stray := [setting.origin for setting in settings if setting.path[0] == "extends"]:
        raise ConfigError(f"{stray[0]}: extends is read from the file itself. Write it there.")
    for setting in settings:  # what a shell handed over is not filled in again
        data = _long_form(apply_setting(data, setting._replace(value=escaped(setting.value))))
    data, written = fill_in(data, env, lambda path: _place(path, settings, layers))
    made = _validated(layers._replace(data=data), settings, written, is_laid=True)
    return made.at(base_dir, written, Places(lambda path: _place(path, settings, layers)))


def _validated(layers: Layers, settings: Sequence[Setting], written: Written, *, is_laid: bool = False) -> Config:
    data = layers.data
    for setting in () if is_laid else settings:
        data = _long_form(apply_setting(data, setting))
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        numbers = _numbers(error, written)
        if not numbers:
            raise ConfigError(_report(error, settings, layers)) from None  # which says all that pydantic's does
    for setting in numbers:
        data = apply_setting(data, setting)
    return _validated(layers._replace(data=data), settings, {}, is_laid=True)


def _numbers(error: ValidationError, written: Written) -> list[Setting]:
    """Variables that stand alone where a number, or true or false, is expected, as what they then mean."""
    found: list[Setting] = []
    for path, kind in ((tuple(each["loc"]), each["type"]) for each in error.errors(include_url=False)):
        if kind in _FROM_TEXT and path in written and is_whole(written[path][0]):
            value = parse_scalar(written[path][1], written[path][0])
            if isinstance(value, int | float):
                found.append(Setting(path, value, written[path][0]))
    return found


def _long_form(data: dict[str, Any]) -> dict[str, Any]:
    """Without empty sections, and with mappings where names may stand for them, so that overrides can reach in."""
    data = {key: value for key, value in data.items() if value is not None}
    short = {
        "algorithm": stages_long_form,
        "tasks": tasks_long_form,
        "store": store_long_form,
        "reward": reward_long_form,
    }
    for key, expand in short.items():
        if key in data:
            data[key] = expand(data[key])
    if isinstance(models := data.get("models"), dict):
        data["models"] = {role: model_long_form(spec) for role, spec in models.items()}
    return data


def _report(error: ValidationError, settings: Sequence[Setting], layers: Layers) -> str:
    """One line for each problem, each beginning with where it was set."""
    found = [(_place(problem.path, settings, layers), problem) for problem in problems(error, Config)]
    return "\n".join(_line(place, dotted(problem.path), problem.text) for place, problem in found)


def _line(place: str | None, key: str, text: str) -> str:
    """The place and what is wrong there, the key named once."""
    if place is None or (place == key and text.startswith(key)):
        return text
    return f"{place}: {text.removeprefix(key).lstrip(': ') if place.endswith(f' {key}') else text}"


def _place(path: KeyPath, settings: Sequence[Setting], layers: Layers) -> str | None:
    for setting in reversed(settings):
        made_here = path not in layers.origins and setting.path[: len(path)] == path
        if made_here or path[: len(setting.path)] == setting.path:
            return setting.origin
    return layers.place(path) or None


def _masked(value: Any, key: str = "") -> Any:
    if isinstance(value, list):
        return [_masked(item) for item in cast(list[Any], value)]
    if isinstance(value, dict):
        return {name: _masked(item, "headers" if key == "headers" else name) for name, item in value.items()}
    if not isinstance(value, str):
        return value
    if key == "headers":
        return value if names_only(value) else "***"
    return re.sub(r"(?<=://)[^/\s]*:(?!\$\{\w+\}@)[^/\s]*@", "***@", value)
