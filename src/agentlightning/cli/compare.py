"""`compare`: several algorithms on the same agent, tasks, splits and budget, side by side on held-out tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentlightning.cli.train import CONFIG, OVERRIDES
from agentlightning.errors import ConfigError

if TYPE_CHECKING:
    from agentlightning.trainer.comparison import Comparison
    from agentlightning.trainer.trainer import Trainer


@click.command()
@CONFIG
@click.option("--algorithms", "-a", required=True, metavar="A,B", help="Names, such as apo,gepa; two or more.")
@click.option("--json", "is_json", is_flag=True, help="The comparison as JSON on standard output.")
@OVERRIDES
def compare(path: str, algorithms: str, overrides: tuple[str, ...], is_json: bool) -> None:
    """Train an agent with each algorithm and compare what they found on the same held-out tasks.

    Each has the whole budget of the config for itself, and its own folder under output_dir. Settings of an algorithm
    are taken from the config's entry of that name.
    """
    from agentlightning.trainer.comparison import compare_results

    names = [name.strip() for name in algorithms.split(",") if name.strip()]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"--algorithms {algorithms!r}: name two or more different ones, such as apo,gepa.")
    ready = {name: _trainer(path, overrides, name, is_quiet=is_json) for name in names}  # all, before any is paid for
    found = compare_results({name: trainer.train(tasks) for name, (trainer, tasks) in ready.items()})
    if is_json:
        import msgspec

        click.echo(msgspec.json.encode(found))
    else:
        _print(found)


def _trainer(path: str, overrides: tuple[str, ...], name: str, *, is_quiet: bool) -> tuple[Trainer, Any]:
    from agentlightning.cli.train import trainer_of
    from agentlightning.trainer.config import load_config

    config = load_config(path, overrides)
    entries = [stage.model_dump(exclude_none=True) for stage in config.algorithm if stage.name == name]
    folder = Path(config.trainer.output_dir) / "compare" / name.replace("/", "-").replace(":", "-")
    config = config.replace({"algorithm": entries[:1] or [{"name": name}], "trainer.output_dir": str(folder)})
    return trainer_of(config.replace({"trainer.progress": "off"}) if is_quiet else config)


def _print(found: Comparison) -> None:
    from rich.table import Table

    from agentlightning.cli.tables import ID, console
    from agentlightning.trainer import wording

    shown = console()
    columns = ("original", "found", "difference", "interval", "calls", "cost", "time")
    table = Table("algorithm", *columns, ID("run"), title=f"{wording.counted(found.num_tasks, 'held-out task')}")
    for each in found.contenders:
        means = [wording.number(mean) if mean is not None else "not measured" for mean in (each.baseline, each.mean)]
        change, span = "", ""
        if each.interval is not None:
            change = wording.signed(each.interval.mean)
            span = f"{wording.signed(each.interval.low)} to {wording.signed(each.interval.high)}"
        spent = (f"{each.calls:,}", wording.dollars(each.usd), wording.duration(each.seconds))
        table.add_row(each.name, *means, change or ("" if each.found else "found nothing"), span, *spent, each.run_id)
    shown.print(table)
    click.echo(found.summary())
