"""`diff`: what a policy changes, or how two policies differ, line by line."""

from __future__ import annotations

import click


@click.command()
@click.argument("old")
@click.argument("new", required=False)
def diff(old: str, new: str | None) -> None:
    """Show what the policy at OLD changes in the agent's prompts; with NEW, how that policy differs from OLD."""
    from agentlightning.data.resource import Policy
    from agentlightning.trainer import wording
    from agentlightning.trainer.policy_folder import load_policy
    from agentlightning.trainer.result import other_changes

    before, after = (Policy(), load_policy(old)) if new is None else (load_policy(old), load_policy(new))
    sites = {site.id: site for policy in (before, after) for site in policy.sites}
    num_changed = 0
    for site in sites.values():
        one, two = before.text_at(site), after.text_at(site)
        if one == two:
            continue
        num_changed += 1
        click.secho(f"--- {site.id} ({before.id})\n+++ {site.id} ({after.id})", bold=True)
        for line in wording.line_diff(one, two):
            click.secho(line, fg={"+": "green", "-": "red"}.get(line[:1]))
    for sign, lines in (("- ", other_changes(before)), ("+ ", other_changes(after))):
        for line in lines:
            num_changed += 1
            click.echo(f"{sign}{line.removeprefix('+ ')}")
    if not num_changed:
        click.echo("no difference")
