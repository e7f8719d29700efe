from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Interval, Measurement
from auditkit.core.schema import dumps
from auditkit.policy.moves import moves

GROUPS = {"F": (50, 100), "M": (50, 100)}


def normal(name, value, sd=0.01, direction="higher", **keys):
    interval = Interval(low=value - 1.959964 * sd, high=value + 1.959964 * sd, level=0.95, method="t")
    return Measurement(name=name, value=value, n=100, interval=interval, direction=direction, **keys)


def pair(kit, base, head):
    return tuple(kit.evidence(*kit.selected(**GROUPS), measurements=part) for part in (base, head))


def states(found):
    return {move.key: move.state for move in found}


def test_directions_and_what_is_lost_or_new(kit):
    def audit(value):
        directions = {"up": "higher", "down": "lower", "any": "neutral"}
        return [normal(f"a.{name}", value, direction=direction) for name, direction in directions.items()]

    empty = Measurement(name="a.empty", value=None, reason="boom")
    base = [*audit(0.5), normal("a.still", 0.5), normal("a.gone", 0.5), normal("a.empty", 0.5)]
    head = [*audit(0.6), normal("a.still", 0.51), normal("a.new", 0.5), empty]
    found = states(moves(*pair(kit, base, head)))
    assert found == {
        "a.up": "better",
        "a.down": "worse",
        "a.any": "changed",
        "a.still": "still",
        "a.gone": "lost",
        "a.empty": "lost",
        "a.new": "new",
    }
    back = states(moves(*pair(kit, head, base)))
    assert (back["a.up"], back["a.down"]) == ("worse", "better")


def test_noise_in_many_measurements_moves_nothing_and_a_planted_change_is_found(kit):
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(40):
        one, two = rng.normal(0.5, 0.01, (2, 200))
        base = [normal(f"a.m{i}", v) for i, v in enumerate(one)]
        head = [normal(f"a.m{i}", v) for i, v in enumerate(two)]
        head[7] = normal("a.m7", float(one[7]) - 0.1)
        found = states(moves(*pair(kit, base, head)))
        assert found.pop("a.m7") == "worse"
        alarms += any(state in ("worse", "better") for state in found.values())
        assert "maybe" in found.values(), "200 intervals at 95 % without one miss: they are too wide"
    assert alarms <= 7  # 5 % of 40, and three standard deviations


def test_gaps_over_groups_use_the_safe_interval(kit):
    base = [normal("fairness.x.difference", 0.10, direction="lower", over=("sex",))]
    head = [normal("fairness.x.difference", 0.16, direction="lower", over=("sex",))]
    (move,) = moves(*pair(kit, base, head))
    z = 2.2414027  # two-sided 97.5 %
    assert (move.interval.low, move.interval.high) == pytest.approx(
        (0.06 - 2 * z * 0.01, 0.06 + 2 * z * 0.01), abs=1e-6
    )
    assert move.state == "worse"


def test_other_rows_and_classes_are_refused(kit):
    one, two = pair(kit, [normal("a.x", 0.5)], [normal("a.x", 0.5)])
    other = kit.replace(
        two, subject=kit.replace(two.subject, test=kit.replace(two.subject.test, fingerprint="sha256:1"))
    )
    with pytest.raises(UsageError, match="AK422 the two audits are of different rows"):
        moves(one, other)
    assert moves(one, other, other_data=True)[0].state == "still"
    classes = kit.replace(two, subject=kit.replace(two.subject, classes=("a", "b")))
    with pytest.raises(UsageError, match="AK422 .* they differ in classes"):
        moves(one, classes, other_data=True)


def command(*args):
    return subprocess.run(
        [sys.executable, "-m", "auditkit.cli.main", *map(str, args)],
        capture_output=True, text=True, encoding="utf-8", check=False, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip


def test_the_command_its_table_and_exit_codes(kit, tmp_path):
    one, two = pair(kit, [normal("a.x", 0.5), normal("a.y", 0.5)], [normal("a.x", 0.3), normal("a.y", 0.5)])
    (tmp_path / "base.json").write_text(dumps(one))
    (tmp_path / "head.json").write_text(dumps(two))
    same = command("compare", tmp_path / "base.json", tmp_path / "base.json")
    assert (same.returncode, same.stdout) == (0, "still\n"), same.stderr
    worse = command("compare", tmp_path / "base.json", tmp_path / "head.json")
    assert (worse.returncode, worse.stdout) == (1, "worse\n"), worse.stderr
    assert "a.x" in worse.stderr
    assert "-0.2 [-0.2" in worse.stderr
    better = command("compare", tmp_path / "head.json", tmp_path / "base.json", "--json", "--quiet")
    assert (better.returncode, better.stderr) == (0, "")
    assert json.loads(better.stdout)["overall"] == "better"
    missing = command("compare", tmp_path / "none.json", tmp_path / "base.json")
    assert (missing.returncode, "AK411" in missing.stderr) == (2, True)


def test_a_baseline_is_accepted_on_the_command_line_and_gates_the_next_audit(kit, tmp_path):
    (tmp_path / "then.json").write_text(dumps(kit.evidence(*kit.selected(F=(1900, 4000), M=(2000, 4000)))))
    (tmp_path / "now.json").write_text(dumps(kit.evidence(*kit.selected(F=(1300, 4000), M=(2000, 4000)))))
    (tmp_path / "p.toml").write_text(kit.rule(compare="difference", min=None, baseline="base.json", max_increase=0.05))
    without = command("gate", tmp_path / "now.json", "--policy", tmp_path / "p.toml")
    assert (without.returncode, "AK417" in without.stderr) == (2, True)
    no_reason = command("baseline", "accept", tmp_path / "then.json", "--out", tmp_path / "base.json")
    assert no_reason.returncode == 2
    assert not (tmp_path / "base.json").exists()
    done = command("baseline", "accept", tmp_path / "then.json", "--out", tmp_path / "base.json", "--reason", "first")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "base.json").read_text())["reason"] == "first"
    assert command("gate", tmp_path / "now.json", "--policy", tmp_path / "p.toml").returncode == 1
    assert command("gate", tmp_path / "then.json", "--policy", tmp_path / "p.toml").returncode == 0
