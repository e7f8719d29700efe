"""What a tokenizer says of its ids: which are special, which stands for unknown words, and their words."""

from __future__ import annotations

from typing import Any

import numpy as np

from auditkit.core.subject import IntArray, Subject


def tokenizer_of(subject: Subject) -> Any:
    """The subject's tokenizer: the one given, or what the model prepares its inputs with."""
    return getattr(subject.model, "prepare", None) if subject.tokenizer is None else subject.tokenizer


def special_ids(tokenizer: Any, padding: int | None) -> tuple[int, ...]:
    """Ids that stand for no word of the text: the padding of the embedding and what the tokenizer names.

    A tokenizer may name them as ``special_ids`` or, as those of Hugging Face do, ``all_special_ids``; the id of unknown
    words is not among them.
    """
    found = set() if padding is None else {padding}
    named = getattr(tokenizer, "special_ids", None)
    named = getattr(tokenizer, "all_special_ids", None) if named is None else named
    if named is not None and not callable(named):
        found |= {int(one) for one in named}
    unknown = unknown_id(tokenizer)
    return tuple(sorted(found - ({unknown} if unknown is not None else set())))


def unknown_id(tokenizer: Any) -> int | None:
    """The id of unknown words: ``unknown_id`` or ``unk_token_id`` of the tokenizer."""
    for name in ("unknown_id", "unk_token_id"):
        one = getattr(tokenizer, name, None)
        if isinstance(one, int | np.integer):
            return int(one)
    return None


def mask_id(tokenizer: Any) -> int | None:
    """The id of a mask token, ``mask_id`` or ``mask_token_id``, if the tokenizer has one."""
    for name in ("mask_id", "mask_token_id"):
        one = getattr(tokenizer, name, None)
        if isinstance(one, int | np.integer):
            return int(one)
    return None


def token_words(tokenizer: Any, ids: IntArray, text: Any, special: tuple[int, ...]) -> tuple[str, ...]:
    """A word for each id of one row.

    They come from the tokenizer's ``convert_ids_to_tokens(ids)`` or ``tokens(text)`` where it has one; else from the
    text split at white space, where that gives as many words as there are ids; else they are the ids themselves.

    >>> token_words(None, np.array([4, 9, 0]), "good film", (0,))
    ('good', 'film', '')
    """
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    if callable(convert):
        return tuple(str(word) for word in convert([int(one) for one in ids]))
    plain = [place for place, one in enumerate(ids) if int(one) not in special]
    own = getattr(tokenizer, "tokens", None)
    words = [str(word) for word in own(text)] if callable(own) and isinstance(text, str) else None
    if words is None and isinstance(text, str):
        words = text.split()
    named = [""] * len(ids)
    cut = words is not None and len(words) >= len(plain) == len(ids)  # the end of a long text was cut off
    fits = words is not None and (len(words) == len(plain) or cut)
    for order, place in enumerate(plain):
        named[place] = words[order] if fits and words is not None else f"id {int(ids[place])}"
    return tuple(named)
