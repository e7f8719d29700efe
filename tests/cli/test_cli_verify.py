"""``auditkit verify``: what was tampered with is named, and its clean twin is quiet."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from auditkit import __version__
from auditkit.api import Report, audit_predictions
from auditkit.cli.main import cli
from auditkit.cli.recompute import compared
from auditkit.cli.recount import counts_at_odds
from auditkit.core.evidence import Counts, Table
from auditkit.core.schema import loads, seal, verdict_from, verdict_json
from auditkit.render.html.card import inert_json, render_card
from auditkit.render.redact import redact

REPORTS = sorted((Path(__file__).parents[2] / "reports").glob("*/evidence.json"))
POLICY = {
    "rule": [
        {"id": "right", "metric": "performance.accuracy", "min": 0.5},
        {"id": "parity", "metric": "selection_rate", "compare": "difference", "over": ["sex"], "max": 0.4},
        {"id": "sizes", "metric": "data.base_rate", "compare": "difference", "over": ["sex"], "max": 0.4},
    ]
}


def audited(n=600, small=0, kind="binary", **more):
    """An audit of saved predictions, with a third group of ``small`` rows."""
    rng = np.random.default_rng(3)
    sex = np.where(np.arange(n) < small, "X", rng.choice(["F", "M"], n))
    if kind == "regression":
        y = rng.normal(size=n)
        decided, options = y + rng.normal(size=n), {"task": "regression"}
    else:
        k = 3 if kind == "multiclass" else 2
        y = rng.integers(0, k, n)
        decided = np.where(rng.uniform(size=n) < 0.75, y, rng.integers(0, k, n))
        scores = np.clip(0.5 + 0.3 * (decided - 0.5) + rng.normal(0, 0.1, n), 0.01, 0.99)
        options = {} if k > 2 else {"scores": scores, "positive": 1}
    names = ["performance", "fairness.groups", "data.quality"]
    return audit_predictions(y, decided, sensitive={"sex": sex}, analyzers=names, progress=False,
                             **options, **more).evidence  # fmt: skip


def verify(path, *more):
    return CliRunner().invoke(cli, ["verify", str(path), *more])


def written(tmp_path, text, name="card.html"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def forged(evidence, change):
    """Resealed evidence with ``change(measurement)`` in place of each measurement."""
    outcomes = tuple(dataclasses.replace(o, measurements=tuple(map(change, o.measurements))) for o in evidence.outcomes)
    return seal(dataclasses.replace(evidence, outcomes=outcomes, digest=""))


def shifted(key, by=0.01):
    """The upper end of one interval moved."""

    def change(m):
        if m.key != key:
            return m
        assert m.interval is not None
        return dataclasses.replace(m, interval=dataclasses.replace(m.interval, high=m.interval.high + by))

    return change


@pytest.fixture(scope="module")
def plain():
    return audited(policy=POLICY)


@pytest.fixture(scope="module")
def partial():
    """A card that withholds a group of four rows."""
    return audited(small=4, policy=POLICY)


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_every_sample_evidence_holds_whole_and_shared(path):
    evidence = loads(path.read_text())
    for each in (evidence, redact(evidence)):
        assert [number for number in compared(each) if number.state == "differs"] == []
        assert counts_at_odds(each)[1] == ()


@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(lambda: audited(kind="multiclass"), id="multiclass"),
        pytest.param(lambda: audited(kind="regression"), id="regression"),
        pytest.param(lambda: audited(weights=np.random.default_rng(0).uniform(0.5, 2.0, 600)), id="weighted"),
        pytest.param(lambda: audited(clusters=np.arange(600) // 3), id="clustered"),
        pytest.param(lambda: audited(n=37), id="few rows"),
        pytest.param(lambda: audited(small=4), id="a small group"),
    ],
)
def test_clean_evidence_of_every_kind_is_quiet(evidence, tmp_path):
    found = evidence()
    for each in (found, redact(found)):
        numbers = list(compared(each))
        assert [number for number in numbers if number.state == "differs"] == []
        assert all(number.why for number in numbers if number.state in ("left", "value"))
        assert len(numbers) == len(list(each.measurements()))
    assert verify(written(tmp_path, render_card(found))).stdout == "holds\n"


def test_all_rates_gaps_and_shares_are_worked_out_again(plain):
    state = {number.key: (number.state, number.interval, number.source) for number in compared(plain)}
    for key, source in {
        "fairness.selection_rate|sex=F": "counts",
        "fairness.selection_rate.difference|over=sex": "counts",
        "fairness.equalized_odds.difference|over=sex": "counts",
        "performance.accuracy": "counts",
        "performance.f1|sex=M": "counts",
        "performance.balanced_accuracy.difference|over=sex": "counts",
        "data.group_share|sex=F": "rows",
        "data.base_rate.difference|over=sex": "groups",
        "performance.brier_score.difference|over=sex": "groups",
        "performance.roc_auc.difference|over=sex": "groups",
    }.items():
        assert state[key] == ("holds", True, source), key
    assert state["performance.roc_auc"][0] == "left"


TAMPERED = [
    "fairness.selection_rate|sex=F",
    "fairness.true_positive_rate.ratio|over=sex",
    "performance.precision",
    "performance.f1.difference|over=sex",
    "data.group_share|sex=M",
    "data.base_rate.difference|over=sex",
    "performance.log_loss.difference|over=sex",
]


@pytest.mark.parametrize("key", TAMPERED)
def test_one_tampered_interval_is_named(plain, tmp_path, key):
    done = verify(written(tmp_path, dumped(forged(plain, shifted(key)))))
    assert done.stdout == "differs\n"
    assert re.search(rf"numbers +{re.escape(key[:30])}", done.stderr), done.stderr
    numbers = json.loads(verify(tmp_path / "card.html", "--json").stdout)["numbers"]
    assert [number["key"] for number in numbers if number["state"] == "differs"] == [key]


@pytest.mark.parametrize("key", TAMPERED[:4:3])
def test_one_tampered_interval_of_a_card_is_named(plain, tmp_path, key):
    bad = forged(plain, shifted(key))
    done = verify(written(tmp_path, render_card(bad, Report(bad).verdict())))
    assert done.stdout == "differs\n"
    assert re.search(rf"✗ differs +numbers +{re.escape(key[:30])}", done.stderr), done.stderr


def dumped(evidence):
    from auditkit.core.schema import dumps

    return dumps(evidence)


def test_one_tampered_value_of_a_group_is_named_with_the_gap_that_it_breaks(plain, tmp_path):
    def change(m):
        return dataclasses.replace(m, value=m.value + 0.05) if m.key == "performance.log_loss|sex=F" else m

    wrong = [number.key for number in compared(forged(plain, change)) if number.state == "differs"]
    assert wrong == ["performance.log_loss|sex=F", "performance.log_loss.difference|over=sex"]


@pytest.mark.parametrize("over", [(), ("sex",)], ids=["all rows", "groups"])
def test_one_tampered_count_is_named(plain, tmp_path, over):
    def moved(artifact):
        if not isinstance(artifact, Counts) or artifact.over != over:
            return artifact
        cells = [[list(row) for row in block] for block in artifact.n]
        cells[0][0][0] += 1
        return dataclasses.replace(artifact, n=tuple(tuple(tuple(row) for row in block) for block in cells))

    outcomes = tuple(dataclasses.replace(o, artifacts=tuple(map(moved, o.artifacts))) for o in plain.outcomes)
    bad = seal(dataclasses.replace(plain, outcomes=outcomes, digest=""))
    for text in (dumped(bad), render_card(bad, Report(bad).verdict())):
        done = verify(written(tmp_path, text))
        assert done.stdout == "differs\n"
        assert re.search(r"✗ differs +counts ", done.stderr), done.stderr
    assert any(number.state == "differs" for number in compared(bad))


def test_differs_is_exit_code_1(plain, tmp_path):
    from auditkit.cli.main import main

    for evidence, code in ((plain, 0), (forged(plain, shifted("performance.precision")), 1)):
        with pytest.raises(SystemExit) as stop:
            main(["--quiet", "verify", str(written(tmp_path, dumped(evidence), "evidence.json"))])
        assert stop.value.code == code


def test_an_edited_file_does_not_match_its_digest(plain, tmp_path):
    text = dumped(plain).replace('"n":600', '"n":601', 1)
    done = verify(written(tmp_path, text, "evidence.json"))
    assert done.stdout == "differs\n"
    assert "does not match its own digest" in done.stderr


def test_a_clean_card_with_a_withheld_group_holds_to_the_byte(partial, tmp_path):
    page = render_card(partial, Report(partial).verdict())
    done = verify(written(tmp_path, page))
    assert done.stdout == "holds\n", done.stderr
    assert "byte for byte what its evidence gives" in done.stderr
    assert "withheld or rounded in this copy" in " ".join(done.stderr.split())
    assert 'id="auditkit-verdict"' in page


def test_a_card_that_withholds_nothing_has_its_verdict_too(plain, tmp_path):
    page = render_card(plain, Report(plain).verdict())
    assert 'id="auditkit-verdict"' in page
    assert verify(written(tmp_path, page)).stdout == "holds\n"


@pytest.mark.parametrize("groups", [2, 3])
def test_a_card_with_rules_on_gaps_of_measured_numbers_holds(groups, tmp_path):
    """The copy inside has six digits: what follows from groups exactly must not hang on more."""
    rng = np.random.default_rng(1)
    score, sex = rng.random(1200), rng.choice(list("ABC")[:groups], 1200)
    rules = [
        {"id": name, "metric": name, "compare": "difference", "max": limit, "over": ["sex"]}
        for name, limit in (("fairness.mean_score", 0.01), ("performance.roc_auc", 0.9), ("performance.log_loss", 0.05))
    ]
    report = audit_predictions(
        (rng.random(1200) < score).astype(int), (score > 0.5).astype(int), scores=score, sensitive={"sex": sex},
        positive=1, progress=False, policy={"rule": rules},
        analyzers={"performance": {}, "fairness.scores": {"resamples": 20, "permutations": 0}},
    )  # fmt: skip
    done = verify(written(tmp_path, report.to_html()))
    assert done.stdout == "holds\n", done.stderr


@pytest.mark.parametrize("maker", ["auditkit", "auditkit 99.0", "auditkit 0.0.1"])
def test_a_page_that_says_it_is_of_another_release_is_not_taken_for_verified(maker, plain, tmp_path):
    """It cannot be compared to the byte; whoever edits a page may write this too, so that it never holds."""
    from auditkit.cli.main import main

    page = render_card(plain, Report(plain).verdict())
    assert page.count(f'content="auditkit {__version__}"') == 1
    other = page.replace(f'content="auditkit {__version__}"', f'content="{maker}"')
    for text in (other, other.replace("Passed", "Failed", 1)):
        done = verify(written(tmp_path, text))
        assert done.stdout == "page not compared\n"
        with pytest.raises(SystemExit) as stop:
            main(["--quiet", "verify", str(tmp_path / "card.html")])
        assert stop.value.code == 4
        told = " ".join(done.stderr.split())
        assert "What it shows may be anything" in told
        assert f"this is auditkit {__version__}" in told
        assert "✓ holds page" not in told


@pytest.mark.parametrize("which", ["plain", "partial"])
def test_a_tampered_verdict_is_found(which, request, tmp_path):
    """Words of the page alone; and page and embedded verdict both, made anew by someone who knows how."""
    evidence = request.getfixturevalue(which)
    verdict = Report(evidence).verdict()
    page = render_card(evidence, verdict)
    assert "Passed" in page
    done = verify(written(tmp_path, page.replace("Passed", "Failed", 1)))
    assert done.stdout == "differs\n"
    assert re.search(r"✗ differs +page", done.stderr)
    first = dataclasses.replace(verdict.results[0], state="fail")
    lied = dataclasses.replace(verdict, state="fail", exit_code=1, results=(first, *verdict.results[1:]))
    done = verify(written(tmp_path, render_card(evidence, lied)))
    assert done.stdout == "differs\n"
    assert re.search(r"✗ differs +(page|verdict +right says fail, the evidence pass)", done.stderr), done.stderr


def test_a_whole_that_does_not_follow_from_its_rules_is_found(partial, tmp_path):
    page = render_card(partial, dataclasses.replace(Report(partial).verdict(), state="fail", exit_code=1))
    done = verify(written(tmp_path, page))
    assert done.stdout == "differs\n"
    assert "the whole says fail, its rules" in done.stderr


def test_a_verdict_taken_out_of_the_card_is_missed(partial, tmp_path):
    """The rule on the withheld group cannot be judged from the copy, so that the page no longer follows."""
    page = render_card(partial, Report(partial).verdict())
    bare = re.sub(r'<script type="application/json" id="auditkit-verdict">.*?</script>\n', "", page)
    assert bare != page
    done = verify(written(tmp_path, bare))
    assert done.stdout == "differs\n"


def test_what_is_no_verdict_is_refused_with_its_code(partial, tmp_path):
    page = render_card(partial, Report(partial).verdict())
    broken = re.sub(r'(id="auditkit-verdict">).*?(</script>)', r'\1{"state":"splendid"}\2', page)
    done = verify(written(tmp_path, broken))
    assert done.exception.code == "AK270"


def test_a_verdict_survives_json_and_cannot_end_its_element(partial):
    verdict = dataclasses.replace(Report(partial).verdict(), summary="</script><script>alert(1)</script>")
    text = inert_json(verdict_json(verdict))
    assert "<" not in text
    assert verdict_from(text) == verdict


def test_the_page_of_a_shared_copy_is_that_of_the_whole(partial):
    """Withholding twice changes nothing: neither in the evidence nor in what its verdict says."""
    from auditkit.render.shared import shared_copy

    verdict = Report(partial).verdict()
    shared, judged = shared_copy(partial, verdict)
    again = render_card(shared, judged, digest=partial.digest)
    assert again == render_card(partial, verdict)


def shared_found(evidence, **changes):
    """States of the checks of a shared copy, by name."""
    from auditkit.cli.shared_checks import shared_checks

    options = {"min_cell": 10, "raw": frozenset(), **changes}
    return {what: (state, detail) for what, state, detail in shared_checks(evidence, **options)}


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parent.name)
def test_shared_copies_hold_nothing_of_single_people(path):
    evidence = redact(loads(path.read_text(encoding="utf-8")))
    found = shared_found(evidence, raw=frozenset(evidence.card.get("raw", ())))
    assert {state for state, _ in found.values()} == {"holds"}
    assert list(found) == ["small cells", "rows of data", "personal data"]


def test_a_private_record_is_not_searched():
    assert shared_found(audited(small=4)) == {}


def test_a_small_group_that_slipped_through_is_named():
    evidence = audited(small=4)
    assert shared_found(redact(evidence))["small cells"][0] == "holds"
    state, detail = shared_found(dataclasses.replace(evidence, redacted=True))["small cells"]
    assert state == "differs"
    assert "rests on 4 rows" in detail
    assert shared_found(redact(evidence), min_cell=10_000)["small cells"][0] == "differs"


def test_a_text_of_the_data_that_slipped_through_is_named():
    evidence = redact(audited())
    raw = Table(name="explain.text.tokens", title="A text", columns=("token", "attribution"), rows=(("hello", 0.1),))
    forged_outcome = dataclasses.replace(evidence.outcomes[0], artifacts=(*evidence.outcomes[0].artifacts, raw))
    broken = dataclasses.replace(evidence, outcomes=(forged_outcome, *evidence.outcomes[1:]))
    assert shared_found(broken)["rows of data"] == ("differs", "explain.text.tokens")
    assert shared_found(broken, raw=frozenset({"explain.text.tokens"}))["rows of data"][0] == "holds"


def test_strings_like_personal_data_are_named_by_place():
    pytest.importorskip("stdnum")
    evidence = redact(audited())
    addresses = {"ann@example.org": 300, "bob@example.org": 300}
    facts = dataclasses.replace(evidence.subject.test, sensitive={"contact": addresses})
    broken = dataclasses.replace(evidence, subject=dataclasses.replace(evidence.subject, test=facts))
    state, detail = shared_found(broken)["personal data"]
    assert (state, detail) == ("differs", "test groups of contact: looks like email address")


def test_verify_fails_a_copy_that_tells_a_small_group(tmp_path):
    evidence = dataclasses.replace(audited(small=4), redacted=True)
    result = verify(written(tmp_path, dumped(evidence), "evidence.json"))
    assert result.stdout == "differs\n"
    assert "rests on 4 rows" in result.stderr


@pytest.mark.parametrize(("encoding", "sign"), [("ascii", "+ holds"), ("utf-8", "✓ holds")])
def test_signs_are_those_that_the_terminal_can_show(monkeypatch, encoding, sign):
    import io

    from rich.console import Console

    from auditkit.cli import verify as command

    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(command, "people_console", lambda: Console(file=stream, width=80))
    command._print([command.Check(what="digest", state="holds", detail="sha256:0")])
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding).startswith(sign)
