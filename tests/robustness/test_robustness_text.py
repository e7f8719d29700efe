"""Texts under change: what each change does, planted faults and clean twins, and swaps that must not matter."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.analyzers.robustness.text import ANALYZER
from auditkit.core.errors import UsageError
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.robustness import text as methods
from auditkit.subjects.build import make_subject


def audit(model, texts, y, sensitive=None, **params):
    subject = make_subject(model, texts, y, positive=1, sensitive=sensitive)
    return run_step(subject, Step(name=ANALYZER.name, params=ANALYZER.params(**params), analyzer=ANALYZER))


def find(outcome, name, where=None, **params):
    found = [
        m for m in outcome.measurements if m.name == name and m.params == params and dict(m.slice) == (where or {})
    ]
    assert len(found) == 1, [m.key for m in outcome.measurements]
    return found[0]


def edits(a, b):
    """Damerau-Levenshtein distance (optimal string alignment), by the textbook recursion."""
    d = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    d[:, 0], d[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return d[-1, -1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 0.3))
def test_typos_are_as_many_slips_as_were_asked_for(seed, share):
    sentence = "The quick brown fox jumps over a lazy dog near Bristol"
    slipped = methods.with_typos(sentence, share, np.random.default_rng(seed))
    letters = sum(len(word) - 1 for word in sentence.split())
    assert 1 <= edits(sentence, slipped) <= max(1, round(share * letters))
    assert [word[0] for word in slipped.split()] == [word[0] for word in sentence.split()]


def test_changes_of_one_text():
    rng = np.random.default_rng(0)
    assert methods.with_case("Ab cD", 1) == "ab cd"
    assert methods.with_case("ab cd", 2) == "Ab Cd"
    assert methods.with_case("ab cd", 3) == "AB CD"
    assert re.sub(" ", "", methods.with_spacing("a b c d e", 0.5, rng)) == "abcde"
    assert methods.with_spacing("a b c d e", 0.5, rng) != "a b c d e"
    assert methods.with_spacing("abc", 0.5, rng) == "abc"
    assert methods.with_synonyms("Good film, GOOD!", {"good": ("fine",)}, rng) == "Fine film, FINE!"
    assert methods.with_typos("", 0.5, rng) == ""
    assert methods.with_typos("a b", 0.5, rng) == "a b"


def test_swaps_keep_case_words_and_what_holds_no_term():
    sets = [["he", "she"], ["New York", "Paris"]]
    assert methods.with_terms_swapped("HE loves New York; the heron too.", sets) == ("SHE loves Paris; the heron too.",)
    assert methods.with_terms_swapped("Nothing here.", sets) == ()
    assert methods.with_terms_swapped("He", []) == ()
    for bad in ([["he"]], [["he", "HE"]], [["a", "b"], ["b", "c"]], [["a", ""]]):
        with pytest.raises(UsageError, match="AK581"):
            methods.check_sets(bad, "swaps.x")
    methods.check_sets(methods.GENDER_TERMS, "gender")


def reviews(n=240, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    who = rng.choice(["He", "She"], n)
    texts = [
        f"{person} found the plot really {'wonderful' if good else 'terrible'} this time."
        for person, good in zip(who, y, strict=True)
    ]
    return texts, y, who


def test_a_model_of_exact_words_falls_to_case_and_its_tolerant_twin_does_not():
    texts, y, _ = reviews()
    exact = audit(lambda rows: np.array([int("wonderful" in row) for row in rows]), texts, y)
    twin = audit(lambda rows: np.array([int("wonderful" in row.lower()) for row in rows]), texts, y)
    upper = find(exact, "robustness.text_accuracy", text="case", severity=3)
    assert upper.value == pytest.approx(1 - y.mean())
    assert upper.n == 240
    assert find(twin, "robustness.text_accuracy", text="case", severity=3).value == 1.0
    for outcome in (exact, twin):
        assert find(outcome, "robustness.mean_text_accuracy", text="punctuation").value == 1.0
    assert find(exact, "robustness.text_drop").interval.low > find(twin, "robustness.text_drop").interval.high
    typos = [find(twin, "robustness.text_accuracy", text="typos", severity=s).value for s in (1, 2, 3)]
    assert typos[0] > typos[2]


def test_the_synonyms_of_the_user_are_used():
    texts, y, _ = reviews()
    model = lambda rows: np.array([int("wonderful" in row) for row in rows])  # noqa: E731
    told = audit(model, texts, y, synonyms={"wonderful": ["splendid"]})
    assert find(told, "robustness.text_accuracy", text="synonyms", severity=1).value == pytest.approx(1 - y.mean())
    untold = audit(model, texts, y)
    assert not [m for m in untold.measurements if m.params.get("text") == "synonyms"]


def test_a_model_that_heeds_gender_is_caught_and_its_twin_is_not():
    texts, y, _ = reviews()
    biased = audit(lambda rows: np.array([int("He " in row or "wonderful" in row) for row in rows]), texts, y)
    rate = find(biased, "robustness.decision_change_rate", swap="gender")
    assert rate.n == 240
    assert rate.value == pytest.approx(1 - y.mean())
    fair = audit(lambda rows: np.array([int("wonderful" in row) for row in rows]), texts, y)
    quiet = find(fair, "robustness.decision_change_rate", swap="gender")
    assert quiet.value == 0.0
    assert quiet.interval.high < 0.03


def test_swaps_of_the_user_and_texts_without_terms():
    texts, y, _ = reviews()
    model = lambda rows: np.array([int("plot" in row) for row in rows])  # noqa: E731
    outcome = audit(model, texts, y, gender=False, swaps={"spelling": [["plot", "story"]], "names": [["Ann", "Eve"]]})
    assert find(outcome, "robustness.decision_change_rate", swap="spelling").value == 1.0
    none = find(outcome, "robustness.decision_change_rate", swap="names")
    assert none.value is None
    assert "no text looked at holds" in none.reason
    clash = audit(model, texts, y, swaps={"gender": [["a", "b"]]})
    assert clash.status == "failed"
    assert "AK581" in clash.reason


def test_the_group_whose_texts_break_is_found():
    texts, y, _ = reviews(400)
    group = np.where(np.arange(400) % 2 == 0, "loud", "calm")
    model = lambda rows: np.array([int("wonderful" in row) for row in rows])  # noqa: E731
    loud = [text.replace("wonderful", "Wonderful") if g == "loud" else text for text, g in zip(texts, group)]  # noqa: B905
    tolerant = lambda rows: np.array([int("onderful" in row) for row in rows])  # noqa: E731
    planted = audit(model, loud, y, sensitive={"tone": group})
    twin = audit(tolerant, texts, y, sensitive={"tone": group})
    name = "robustness.mean_text_accuracy.difference"
    assert find(planted, name).interval.low > 0.1
    assert find(twin, name).interval.low == 0.0


def lengthy(texts):
    """Decides by the number of characters, so that it is right on every text below as it stands."""
    return np.array([int(len(text) > 3) for text in texts])


def test_a_change_that_no_text_has_room_for_is_no_robustness():
    texts = ["12", "345678"] * 15
    outcome = audit(lengthy, texts, [0, 1] * 15, synonyms={"good": ["great"]})
    for name in ("typos", "case", "synonyms"):
        told = [m for m in outcome.measurements if m.params.get("text") == name]
        assert told
        assert {m.value for m in told} == {None}
        assert all("no row looked at is changed" in m.reason for m in told)
    spaced = find(outcome, "robustness.mean_text_accuracy", text="punctuation")
    overall = find(outcome, "robustness.mean_text_accuracy")
    assert spaced.value is not None
    shown = [m.value for m in outcome.measurements if m.name == "robustness.mean_text_accuracy" and m.params]
    assert overall.value == pytest.approx(np.mean([value for value in shown if value is not None]))
    (curve,) = [a for a in outcome.artifacts if a.kind == "curve"]
    assert next(line for line in curve.series if line.name == "typos").y[1:] == (None, None, None)


def test_texts_of_nothing_are_told():
    outcome = audit(lengthy, ["", "", "a longer text with some words"] * 10, [0, 0, 1] * 10)
    assert any(note.startswith("Changed fewer than half of the rows: typos 1 (10 of 30)") for note in outcome.notes)
    assert find(outcome, "robustness.text_accuracy", text="typos", severity=1).value is not None


def test_a_slip_hits_a_key_that_touches_the_one_meant():
    # Keys of one unit of width, each row a quarter and then a half of one to the right of the row above.
    places = {}
    for height, (row, start) in enumerate((("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))):
        places |= {letter: (height, start + place) for place, letter in enumerate(row)}

    def touch(a, b):
        (high, left), (other, right) = places[a], places[b]
        return a != b and (
            abs(left - right) == 1.0 if high == other else abs(high - other) == 1 and abs(left - right) < 1
        )

    rng = np.random.default_rng(0)
    for letter in places:
        hit = {methods.with_typos(f"0{letter}", 1.0, rng) for _ in range(2)}  # a first letter is spared
        assert hit == {f"0{letter}"}
        slips = {methods.with_typos(f"x{letter}", 1.0, rng)[1:] for _ in range(400)} - {"", letter * 2}
        assert slips == {other for other in places if touch(letter, other)}


def test_a_title_keeps_the_small_letter_after_an_apostrophe():
    assert methods.with_case("it's o'clock, DON’T well-known", 2) == "It's O'clock, Don’t Well-Known"
    texts = ["we don't like it", "we do like it"] * 20
    model = lambda rows: np.array([int("n't" not in row) for row in rows])  # noqa: E731
    outcome = audit(model, texts, [0, 1] * 20)
    assert find(outcome, "robustness.text_accuracy", text="case", severity=2).value == 1.0
    assert find(outcome, "robustness.text_accuracy", text="case", severity=3).value == 0.5


def test_synonyms_may_be_several_words_and_a_word_stands_once():
    rng = np.random.default_rng(0)
    known = {"credit card": ("card",), "card": ("ticket",), "3d": ("flat",), "c++": ("rust",)}
    assert methods.with_synonyms("A Credit Card, a card; 3D in C++!", known, rng) == "A Card, a ticket; FLAT in RUST!"
    assert methods.with_synonyms("discredit cards 33d", known, rng) == "discredit cards 33d"
    with pytest.raises(ValueError, match="words must differ in more than case"):
        ANALYZER.params(synonyms={"Good": ["fine"], "good ": ["nice"]})
    texts = ["a new york story", "a story"] * 20
    model = lambda rows: np.array([int("york" in row) for row in rows])  # noqa: E731
    told = audit(model, texts, [1, 0] * 20, synonyms={"New York": ["NYC"]})
    assert find(told, "robustness.text_accuracy", text="synonyms", severity=1).value == 0.5


def test_terms_with_spaces_around_them_and_letters_alike_but_for_case_are_swapped_or_left():
    assert methods.with_terms_swapped("She saw Ann.", [[" she ", "he"], ["Ann ", " Eve"]]) == ("He saw Eve.",)
    # A long s is an s but for case in a pattern: no reason to stop.
    assert methods.with_terms_swapped("\u017fhe saw him", [["she", "he"]]) == ()
    assert methods.with_terms_swapped("B\u0130ll met Ann", [["Bill", "Bob"], ["Ann", "Eve"]]) == ("B\u0130ll met Eve",)
