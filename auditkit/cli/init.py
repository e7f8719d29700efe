"""``auditkit init``: a commented configuration whose limits are left for people to choose."""

from __future__ import annotations

from pathlib import Path

import click

from auditkit.cli.console import say
from auditkit.core.errors import UsageError

TEMPLATE = """\
# auditkit configuration. `auditkit run {name} --out audit --gate` audits the model and judges it.
# Every key: auditkit schema config. Every analyzer and its settings: auditkit analyzers [NAME].
version = 1

[model]                               # leave the whole table out to audit saved predictions
path = "model.skops"                  # .skops, .safetensors, or .pt (a state_dict; give the architecture as factory)
# factory = "model:build"             # or: function `build` of model.py beside this file; its code is run
# allow_pickle = true                 # pickle and joblib run code when loaded: only with the file pinned
# sha256 = "..."                      # sha256sum model.pkl

[data]
test = "test.csv"                     # CSV, Parquet, npz, or "model:test_table"
# train = "train.csv"                 # needed by privacy, and better explanations
target = "label"
# positive = "yes"                    # label of the positive class
sensitive = []                        # e.g. ["sex", "origin"]: compared over, not given to the model
# keep = []                           # sensitive columns that the model does take
# drop = []                           # further columns that the model does not take
# weight = "weight"
# cluster = "person"                  # rows of one person or site: intervals respect it
# prediction = "decision"             # saved predictions, when there is no [model]
# score = "probability"
# score_space = "margin"              # what the score is, where it is no probability: "logit", or "margin" (points)
# threshold = 620                     # in place of prediction: the score from which a row is positive

# [data.schema.postcode]              # where the inferred kind of a feature is wrong
# kind = "categorical"

# [training]
# factory = "model:recipe"            # how to train afresh: needed by private training

[run]
seed = 0
device = "auto"
# deadline_seconds = 3600
# analyzers = ["performance", "fairness", "explain.shap"]   # all defaults when left out

# [analyzer."explain.shap"]
# max_rows = 200

[card]                                # what only you can say; the card shows what is missing
# owner = ""
# contact = ""
# summary = ""
# intended_use = ""
# out_of_scope = ""
# limitations = ""
min_cell = 10                         # smaller counts are hidden in shared copies

# The rules. No limit is suggested, because what is acceptable depends on what the model decides about whom.
# Fill in `min` or `max`, give the reason, and take the comment signs away.
#
# [[rule]]
# id = "good-enough"
# metric = "performance.balanced_accuracy"
# min = ?
# reason = "what a worse model would cost"
#
# [[rule]]
# id = "selection-by-sex"
# metric = "fairness.selection_rate"
# compare = "ratio"                   # value | difference | ratio
# over = ["sex"]
# min = ?
# reason = ""
#
# [[rule]]
# id = "missed-by-sex"
# metric = "fairness.true_positive_rate"
# compare = "difference"
# over = ["sex"]
# max = ?
# reason = ""
"""


@click.command()
@click.argument("path", default="audit.toml", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite PATH when it exists.")
def init(path: Path, force: bool) -> None:
    """Write a commented configuration to PATH (audit.toml)."""
    from auditkit.core.schema import write_text

    if path.is_dir():
        path = path / "audit.toml"
    if path.exists() and not force:
        raise UsageError("AK644", f"{str(path)!r} exists", fix="name another file, or overwrite it with --force")
    write_text(path, TEMPLATE.format(name=path.name))
    click.echo(str(path))
    say("Fill in the model, the data and the rules, then: auditkit run --out audit --gate")
