"""Texts as people type them: slips of the keyboard, case, spacing, punctuation, other words, and swapped terms."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from auditkit.core.errors import UsageError

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

# English words that tell a gender and have one counterpart; "her", "his" and "him" have not, and are left out.
GENDER_TERMS: tuple[tuple[str, ...], ...] = (
    ("he", "she"),
    ("himself", "herself"),
    ("man", "woman"),
    ("men", "women"),
    ("boy", "girl"),
    ("boys", "girls"),
    ("father", "mother"),
    ("fathers", "mothers"),
    ("dad", "mom"),
    ("son", "daughter"),
    ("brother", "sister"),
    ("brothers", "sisters"),
    ("husband", "wife"),
    ("uncle", "aunt"),
    ("male", "female"),
    ("gentleman", "lady"),
    ("actor", "actress"),
    ("king", "queen"),
    ("prince", "princess"),
)


def _neighbours() -> dict[str, str]:
    """Letter -> the letters beside it on a QWERTY keyboard."""
    near: dict[str, str] = {}
    for height, row in enumerate(_ROWS):
        for place, letter in enumerate(row):
            # Each row stands a part of a key to the right of the one above it.
            above = _ROWS[height - 1][place : place + 2] if height else ""
            below = _ROWS[height + 1][max(place - 1, 0) : place + 1] if height + 1 < len(_ROWS) else ""
            near[letter] = row[max(place - 1, 0) : place] + row[place + 1 : place + 2] + above + below
    return near


_NEAR = _neighbours()


def with_typos(text: str, share: float, rng: np.random.Generator) -> str:
    """Slips at ``share`` of the letters, at least one: two letters swapped, one left out, doubled or hit beside.

    First letters of words are spared, as in most slips of people.

    Source: the kinds of slip of Damerau (1964), Communications of the ACM 7.

    >>> with_typos("hello", 0.0, np.random.default_rng(0))
    'hello'
    >>> with_typos("hello", 0.1, np.random.default_rng(0)) != "hello"
    True
    """
    places = [p for word in _WORD.finditer(text) for p in range(word.start() + 1, word.end()) if text[p].isalpha()]
    if not places or share <= 0.0:
        return text
    count = min(max(1, round(share * len(places))), len(places))
    letters = list(text)
    # From the end on, so that places before stay what they were.
    for place in sorted(rng.choice(places, size=count, replace=False).tolist(), reverse=True):
        kind, letter = int(rng.integers(4)), letters[place]
        near = _NEAR.get(letter.lower(), "")
        if kind == 0 and place + 1 < len(letters) and letters[place + 1] != letter and letters[place + 1].isalpha():
            letters[place], letters[place + 1] = letters[place + 1], letter
        elif kind == 1 and near:
            hit = near[int(rng.integers(len(near)))]
            letters[place] = hit.upper() if letter.isupper() else hit
        elif kind == 2:
            letters[place] = letter * 2
        else:
            letters[place] = ""
    return "".join(letters)


def with_case(text: str, how: int) -> str:
    """All small (1), each word with a capital (2), or all capitals (3).

    >>> [with_case("don't GO", how) for how in (1, 2, 3)]
    ["don't go", "Don't Go", "DON'T GO"]
    """
    if how == 2:
        return _WORD.sub(lambda found: found.group().capitalize(), text)
    return text.lower() if how == 1 else text.upper()


def with_spacing(text: str, share: float, rng: np.random.Generator) -> str:
    """``share`` of the spaces, at least one, doubled or lost with equal chance."""
    spaces = [found.start() for found in re.finditer(" ", text)]
    if not spaces or share <= 0.0:
        return text
    count = min(max(1, round(share * len(spaces))), len(spaces))
    letters = list(text)
    for place in rng.choice(spaces, size=count, replace=False).tolist():
        letters[place] = "  " if rng.random() < 0.5 else ""
    return "".join(letters)


def with_punctuation(text: str, how: int) -> str:
    """The final mark taken away (1), one added (2), or all marks taken away (3).

    >>> [with_punctuation("Well, no.", how) for how in (1, 2, 3)]
    ['Well, no', 'Well, no.!', 'Well no']
    """
    if how == 1:
        return re.sub(r"[\s.!?;:,]+$", "", text)
    if how == 2:
        return text + "!"
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s'’]", "", text)).strip()


def with_synonyms(text: str, synonyms: Mapping[str, Sequence[str]], rng: np.random.Generator) -> str:
    """Each word of the list, or several in a row, replaced by one of its synonyms; capitals follow what is replaced.

    >>> with_synonyms("In New York City it is big.", {"new york": ["NYC"], "big": ["large"]}, np.random.default_rng(0))
    'In NYC City it is large.'
    """

    def replaced(found: re.Match[str]) -> str:
        others = synonyms.get(found.group().lower(), ())
        return _cased_like(found.group(), others[int(rng.integers(len(others)))]) if others else found.group()

    return _words_or(tuple(synonyms)).sub(replaced, text)


@functools.lru_cache(maxsize=8)
def _words_or(terms: tuple[str, ...]) -> re.Pattern[str]:
    """What finds those of ``terms`` that are no plain words, the longest first, and else every word."""
    odd = sorted((term for term in terms if not _WORD.fullmatch(term)), key=len, reverse=True)
    parts = [rf"(?<!\w){re.escape(term)}(?!\w)" for term in odd]
    return re.compile("|".join([*parts, _WORD.pattern]), re.IGNORECASE)


def with_terms_swapped(text: str, sets: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The text with its terms replaced by the other terms of their sets, one variant for each step around the sets.

    Args:
        text: A text.
        sets: Sets of interchangeable terms (names, genders, spellings of a dialect); a term may be several words.

    Returns:
        Variants that differ from the text; none where it holds no term.

    Source: invariance tests of Ribeiro et al. (2020), section 2.2.

    >>> with_terms_swapped("He saw Ann.", [["he", "she"], ["Ann", "Eve", "Ida"]])
    ('She saw Eve.', 'He saw Ida.')
    """
    groups = [[term.strip() for term in group] for group in sets]
    where = {term.lower(): (group, place) for group in groups for place, term in enumerate(group)}
    if not where:
        return ()
    longest = sorted(where, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest)) + r")(?!\w)", re.IGNORECASE)
    variants = []
    for step in range(1, max(len(group) for group in groups)):

        def replaced(found: re.Match[str], step: int = step) -> str:
            # Letters may be alike but for case in a pattern (a long s and an s) and not in lower case: no term then.
            group, place = where.get(found.group().lower(), ([found.group()], 0))
            return _cased_like(found.group(), group[(place + step) % len(group)])

        variants.append(pattern.sub(replaced, text))
    return tuple(dict.fromkeys(variant for variant in variants if variant.lower() != text.lower()))


def check_sets(sets: Sequence[Sequence[str]], where: str) -> None:
    """Refuse sets of terms that cannot be swapped.

    Raises:
        UsageError: AK581 a set of fewer than two terms, or a term in two sets.
    """
    seen: set[str] = set()
    for group in sets:
        terms = [term.strip().lower() for term in group]
        if len(set(terms)) < 2 or len(set(terms)) != len(terms) or "" in terms:
            raise UsageError(
                "AK581", f"a set of terms needs two or more different ones, got {list(group)}", where=where
            )
        twice = seen & set(terms)
        if twice:
            raise UsageError("AK581", f"the term {sorted(twice)[0]!r} stands in two sets", where=where)
        seen |= set(terms)


def _cased_like(model: str, word: str) -> str:
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
