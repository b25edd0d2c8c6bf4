"""A policy as files a person can read, edit, diff and put under version control, and back.

`policy.yaml` is the truth and needs no store to steer an agent; `prompts/*.txt` are copies for reading and pasting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agentlightning.data import template as templates
from agentlightning.data.resource import Demo, Policy, PromptSite, SiteKind, Slot
from agentlightning.errors import DataError, near_miss
from agentlightning.store.whole_file import draft
from agentlightning.trainer.result import TrainingResult

FORMAT = 1
FILE_NAME = "policy.yaml"
WEIGHTS_FOLDER = "weights"
"""Each version of weights is a folder in it, named by the version."""

_HEADER = """\
# What Agent Lightning learned. Load it with agentlightning.load_optimized_agent.
# You may edit any "text": keep each slot of the original, written ⟦name⟧, exactly once.
# The files in prompts/ are copies for reading; edits there have no effect.
"""


class SavedSite(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A prompt site in the file. Without `text` the site is known but unchanged."""

    site: str
    agent: str
    kind: SiteKind
    original: str
    text: str | None = None
    copy: str | None = None
    """Where the plain text copy lies, relative to the file."""
    slots: list[Slot] = []
    coverage: float | None = None
    num_observed: int = 0
    tool: str = ""


class Measured(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How the policy did, for whoever finds the file later."""

    verdict: str
    baseline: float | None = None
    final: float | None = None
    interval: tuple[float, float] | None = None
    num_test_tasks: int = 0
    run: str = ""


class SavedEngine(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What answers the agents' calls: the engine's name, its model and its settings."""

    spec: dict[str, Any]
    agents: list[str] = []
    """Empty: it answers for all of them."""


class SavedPolicy(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The layout of policy.yaml."""

    format: int
    policy: str
    """The id when it was saved; after an edit the loaded policy has a new one."""
    created: str
    predict: str | None = None
    """`module:Class` of the algorithm whose `predict` steers calls, when it is not the default."""
    predict_params: dict[str, Any] = {}
    """Its settings, as far as they are not the defaults."""
    measured: Measured | None = None
    prompts: list[SavedSite] = []
    demos: dict[str, list[Demo]] = {}
    models: dict[str, str] = {}
    sampling: dict[str, dict[str, Any]] = {}
    weights: dict[str, str] = {}
    """Agent → version; its files lie in `weights/<version>/`."""
    engine: SavedEngine | None = None

    def to_policy(self) -> Policy:
        return Policy(
            prompts={entry.site: entry.text for entry in self.prompts if entry.text is not None},
            sites=[_to_site(entry) for entry in self.prompts],
            demos=self.demos,
            models=self.models,
            sampling=self.sampling,
            weights=self.weights,
        )


def save_policy(
    policy: Policy,
    folder: str | Path,
    *,
    result: TrainingResult | None = None,
    predict: str | None = None,
    predict_params: Mapping[str, Any] | None = None,
    engine: SavedEngine | None = None,
) -> Path:
    """Write `policy.yaml` and the plain copies into `folder` (made if missing), and give back the file's path.

    Each file appears whole or not at all, `policy.yaml` last; copies that an earlier save left behind are removed.
    Raises DataError for a prompt whose site the policy does not know, because it could not steer anything.
    """
    folder = Path(folder)
    path = folder / FILE_NAME
    known = _to_saved(policy, result, predict)
    saved = msgspec.structs.replace(known, predict_params=dict(predict_params or {}), engine=engine)
    stale = _copies_of(path)
    for entry in saved.prompts:
        if entry.copy is not None and entry.text is not None:
            _write(folder / entry.copy, entry.text)
    _write(path, _HEADER + _dump(msgspec.to_builtins(saved)))
    for copy in stale - {entry.copy for entry in saved.prompts}:
        (folder / copy).unlink(missing_ok=True)
    return path


def load_policy(path: str | Path) -> Policy:
    """The policy of a folder or a policy.yaml; hand-edited texts are welcome, and give it a new id.

    Raises DataError naming the file and the field when something is missing, of the wrong type, from a newer release,
    or when an edited text lost a slot.
    """
    return read_policy(path).to_policy()


def read_policy(path: str | Path) -> SavedPolicy:
    """The same with what stands beside the policy: who made it, when, and how it was measured."""
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    saved = _parse(path)
    seen: set[str] = set()
    for entry in saved.prompts:
        if entry.site in seen:
            raise DataError(f"{path}: site {entry.site!r} appears twice under 'prompts'. Keep one of them.")
        seen.add(entry.site)
        if entry.text is not None and (problems := templates.candidate_problems(entry.original, entry.text)):
            raise DataError(
                f"{path}: the text of site {entry.site!r} cannot replace the original: {'; '.join(problems)}. "
                "Each slot of 'original' must stand in 'text' exactly once."
            )
    return saved


def _parse(path: Path) -> SavedPolicy:
    try:
        content = yaml.safe_load(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"there is no policy at {path}. Train first, or give the folder that training wrote."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise DataError(f"{path} is not a saved policy: it has no 'format'. Give the policy.yaml that training wrote.")
    if content["format"] != FORMAT:
        raise DataError(
            f"{path}: format {content['format']!r} is not known; this release reads format {FORMAT}. "
            "Upgrade agentlightning."
        )
    try:
        return msgspec.convert(content, SavedPolicy)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: {_explain(str(error))}") from error


def _explain(problem: str) -> str:
    """The decoder's message with the place first and, where one is known, what to do."""
    message, _, place = problem.partition(" - at `$.")
    place = place.rstrip("`")
    text = f"{place}: {message[0].lower()}{message[1:]}." if place else f"{message}."
    if unknown := re.search(r"unknown field `(.*)`", message):
        fields = {name for kind in (SavedPolicy, SavedSite, Measured) for name in kind.__struct_fields__}
        return text + near_miss(unknown[1], fields)
    if "`str" in message and "got `" in message:
        return text + " Put the value in quotes to make it text."
    return text


def _to_saved(policy: Policy, result: TrainingResult | None, predict: str | None) -> SavedPolicy:
    known = {site.id for site in policy.sites}
    if unknown := [site_id for site_id in policy.prompts if site_id not in known]:
        raise DataError(
            f"policy {policy.id} has a text for site {unknown[0]!r} but not the site itself, so it could not steer a "
            "call. Build policies with Policy.with_prompt(site, text)."
        )
    copies = _copy_names(list(policy.prompts))
    return SavedPolicy(
        format=FORMAT,
        policy=policy.id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        predict=predict,
        measured=_to_measured(result) if result else None,
        prompts=[_to_entry(site, policy.prompts.get(site.id), copies.get(site.id)) for site in policy.sites],
        demos=policy.demos,
        models=policy.models,
        sampling=policy.sampling,
        weights=policy.weights,
    )


def _to_entry(site: PromptSite, text: str | None, copy: str | None) -> SavedSite:
    return SavedSite(
        site=site.id,
        agent=site.agent,
        kind=site.kind,
        original=site.template,
        text=text,
        copy=copy,
        slots=site.slots,
        coverage=site.coverage,
        num_observed=site.num_observed,
        tool=site.tool,
    )


def _to_site(entry: SavedSite) -> PromptSite:
    return PromptSite(
        id=entry.site,
        agent=entry.agent,
        kind=entry.kind,
        template=entry.original,
        slots=entry.slots,
        coverage=entry.coverage,
        num_observed=entry.num_observed,
        tool=entry.tool,
    )


def _to_measured(result: TrainingResult) -> Measured:
    return Measured(
        verdict=result.verdict,
        baseline=result.baseline,
        final=result.final,
        interval=result.interval,
        num_test_tasks=result.num_test_tasks,
        run=result.run_id,
    )


def _copy_names(site_ids: list[str]) -> dict[str, str]:
    """Site id → a file name that is safe everywhere; two ids never share one, even where case does not count."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for site_id in site_ids:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", site_id).strip("-.")[:80] or "prompt"
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names[site_id] = f"prompts/{name}.txt"
    return names


def _copies_of(path: Path) -> set[str]:
    """The copies an earlier save made; none when there is no readable policy, so nothing strange is ever deleted."""
    if not path.exists():
        return set()
    try:
        entries = _parse(path).prompts
    except DataError:
        return set()
    return {entry.copy for entry in entries if entry.copy and re.fullmatch(r"prompts/[A-Za-z0-9_.-]+\.txt", entry.copy)}


class _Dumper(yaml.SafeDumper):
    """Long and multi-line text in block style, so a prompt reads as it is written."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Block style cannot hold these: YAML folds other line breaks into \n, and loses or refuses odd white space.
    is_plain = not re.search(r"[\r\x85\u2028\u2029\t]|[ ]\n|[ ]\Z|\A\s", text)
    style = "|" if is_plain and ("\n" in text or len(text) > 80) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style or ('"' if not is_plain else None))


_Dumper.add_representer(str, _represent_text)


def _dump(content: Any) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20)


def _write(path: Path, text: str) -> None:
    with draft(path.parent) as writing:
        writing.file.write(text.encode())
        writing.publish(path)
