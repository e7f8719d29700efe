"""``auditkit demo``: the embedded example, audited in front of you."""

from __future__ import annotations

from pathlib import Path

import click

from auditkit.cli.console import say


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--clean", is_flag=True, help="The twin without the planted faults.")
@click.option("--leak", is_flag=True, help="With a column that is known only after the decision.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of data and audit.")
@click.option("--fresh", is_flag=True, help="Measure everything again, also what an earlier run finished.")
def demo(out: Path, clean: bool, leak: bool, seed: int, fresh: bool) -> int:
    """Train two models of a synthetic loan table and audit both; no download, a reduced plan.

    OUT gets evidence.json, model-card.html and audit.toml (the rules) of a gradient-boosted pipeline, OUT/mlp the
    same of a neural network. The faults are planted: a proxy for sex, harsher labels for women, a 5 % minority,
    and with --leak a leaked column. The exit code is 0 when everything could be measured; then judge it with
    auditkit gate OUT/evidence.json --policy OUT/audit.toml
    """
    from auditkit.cli.run import conclude, progress_sink
    from auditkit.demo.run import POLICY_FILE, demo_reports

    code = 0
    say("A synthetic loan table, two models, a reduced plan: a first look.")
    with progress_sink() as sink:
        for folder, report in demo_reports(out, clean=clean, leak=leak, seed=seed, fresh=fresh, sink=sink):
            code = max(code, conclude(report, folder, judge=False))
            click.echo(str(folder / POLICY_FILE))
    say(f"Now judge it: auditkit gate {out / 'evidence.json'} --policy {out / POLICY_FILE}")
    return code
