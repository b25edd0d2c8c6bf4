"""`rate`: a person says how good rollouts were, one by one or in pairs; each answer is a feedback record at once."""

from __future__ import annotations

import getpass
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from agentlightning.cli.store_option import STORE, WHERE, parse_where, with_store
from agentlightning.data.opinion import choice_record, rating_record
from agentlightning.errors import DataError

if TYPE_CHECKING:
    from agentlightning.data.record import Record
    from agentlightning.data.trajectory import Trajectory
    from agentlightning.store.base import Store

Said = Callable[..., "Record"]
"""A rating or a choice that still has to be told the run and the rater."""

_TEXT_CHARACTERS = 4_000
_STARS = {str(stars): stars for stars in range(1, 6)}
_THUMBS = {"+": True, "u": True, "-": False, "d": False}


@click.command()
@click.argument("run")
@click.option("--pairs", "is_pairs", is_flag=True, help="Two rollouts of one task at a time: which is better?")
@click.option("--thumbs", "is_thumbs", is_flag=True, help="Thumbs up or down instead of 1 to 5.")
@click.option("--rater", help="Who rates; your user name when not given.")
@click.option("--again", is_flag=True, help="Also what this rater has rated before.")
@click.option("--limit", type=click.IntRange(min=1), help="So many at most.")
@click.option("--seed", default=0, show_default=True, help="Of the order, and of which of a pair is shown first.")
@WHERE
@STORE
def rate(run: str, store: str, where: tuple[str, ...], rater: str | None, **options: Any) -> None:
    """Go through the rollouts of RUN and say how good they are; s skips, q ends, and what was said is kept.

    Neither prompt version nor reward is shown, so that they do not sway the answer.
    """
    condition, rater = parse_where(where, run), rater or getpass.getuser()
    count = with_store(store, lambda opened: _session(opened, condition, rater, options))
    click.echo(f"{count} {'choices' if options['is_pairs'] else 'ratings'} by {rater} kept in {store}")


async def _session(store: Store, where: dict[str, Any], rater: str, options: dict[str, Any]) -> int:
    from agentlightning.store.trajectories import read_trajectories

    found = [t async for t in read_trajectories(store, where) if t.status in ("succeeded", "failed")]
    if not found:
        conditions = " and ".join(f"{name} {value}" for name, value in where.items())
        raise DataError(f"there is no rollout of {conditions} to rate. `agentlightning ls` lists the runs.")
    draw = random.Random(options["seed"])
    done = set[Any]() if options["again"] else await _done(store, where["run"], rater)
    ask = _ask_pairs if options["is_pairs"] else _ask_each
    count = 0
    for said in ask(found, done, draw, options):
        await store.append([said(run=where["run"], rater=rater)])
        count += 1
    return count


async def _done(store: Store, run: str, rater: str) -> set[Any]:
    bodies = [s.record.body async for s in store.read("feedback", {"run": run})]
    mine = [body for body in bodies if body.get("rater") == rater]
    return {
        body["rollout"] if body.get("kind") == "rating" else frozenset((body["better"], body["worse"]))
        for body in mine
        if body.get("kind") in ("rating", "choice")
    }


def _ask_each(found: list[Trajectory], done: set[Any], draw: random.Random, options: dict[str, Any]) -> Iterator[Said]:
    left = [trajectory for trajectory in found if trajectory.id not in done]
    draw.shuffle(left)
    left = left[: options["limit"]]
    answers, scale = (_THUMBS, (False, True)) if options["is_thumbs"] else (_STARS, (1, 5))
    asked = "+ good, - bad" if options["is_thumbs"] else "1 (bad) to 5 (very good)"
    for number, trajectory in enumerate(left, start=1):
        _show_task(trajectory, f"{number} of {len(left)}")
        _show_output("output", trajectory)
        said = _answer(f"{asked}, s skip, q quit", answers)
        if said == "q":
            return
        if said != "s":
            yield partial(rating_record, trajectory.id, answers[said], scale, comment=_comment())


def _ask_pairs(found: list[Trajectory], done: set[Any], draw: random.Random, options: dict[str, Any]) -> Iterator[Said]:
    pairs = [pair for pair in _pairs(found, draw) if frozenset(t.id for t in pair) not in done][: options["limit"]]
    for number, (one, two) in enumerate(pairs, start=1):
        _show_task(one, f"{number} of {len(pairs)}")
        _show_output("A", one)
        _show_output("B", two)
        said = _answer("a or b is better, s skip (or equal), q quit", {"a": one, "b": two})
        if said == "q":
            return
        if said != "s":
            better, worse = (one, two) if said == "a" else (two, one)
            yield partial(choice_record, better.id, worse.id, comment=_comment())


def _pairs(found: list[Trajectory], draw: random.Random) -> list[list[Trajectory]]:
    """Rollouts of one task whose outputs differ, under different policies where there are; each used once."""
    by_task: defaultdict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in found:
        by_task[trajectory.task].append(trajectory)
    pairs: list[list[Trajectory]] = []
    for rollouts in by_task.values():
        draw.shuffle(rollouts)
        while len(rollouts) > 1:
            one = rollouts.pop()
            others = [t for t in rollouts if _text(t.output) != _text(one.output)]
            other = next((t for t in others if t.policy_id != one.policy_id), others[0] if others else None)
            if other is not None:
                rollouts.remove(other)
                pairs.append([one, other])
    draw.shuffle(pairs)
    return pairs


def _show_task(trajectory: Trajectory, place: str) -> None:
    click.secho(f"\n── {place} · task {trajectory.task} ", bold=True)
    click.echo(f"input: {_text(trajectory.input)}")
    if trajectory.expected is not None:
        click.echo(f"expected: {_text(trajectory.expected)}")


def _show_output(label: str, trajectory: Trajectory) -> None:
    click.secho(f"{label}:", bold=True)
    click.echo(_text(trajectory.output) if trajectory.error is None else f"(failed: {trajectory.error})")


def _answer(question: str, answers: dict[str, Any]) -> str:
    while True:
        try:
            said = click.prompt(question, prompt_suffix=" > ").strip().lower()
        except click.Abort:  # the end of what is typed in, or Ctrl-C: what was said until now is kept
            return "q"
        if said in (*answers, "s", "q"):
            return said
        click.echo(f"Type {', '.join(answers)}, s or q.")


def _comment() -> str:
    try:
        return click.prompt("why (Enter for nothing)", default="", show_default=False, prompt_suffix=" > ")
    except click.Abort:
        return ""


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}… ({len(text):,} characters)"
