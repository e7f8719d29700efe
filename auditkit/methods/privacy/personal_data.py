"""Columns that look like personal data: by the form and the check digits of their values, or by their names.

Check digits are verified by python-stdnum, offline; this is the one module that imports it.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Check = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of personal data.

    Attributes:
        name: What it is.
        form: What a value looks like; found within texts, too.
        module: Module of python-stdnum that verifies a value, or empty.
        chance: Share of random values of this form that the check lets through; 1 without a check.
    """

    name: str
    form: re.Pattern[str]
    module: str = ""
    chance: float = 1.0


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.@+-])(?:{pattern})(?![\w@-])", re.ASCII)


# Those with check digits first: a value counts for the first kind that it fits.
KINDS = (
    Kind(
        name="email address", form=_form(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
    ),
    Kind(
        name="IBAN", form=_form(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?"), module="iban", chance=0.01
    ),
    Kind(
        name="payment card number", form=_form(r"[3-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}"), module="luhn", chance=0.1
    ),
    Kind(name="French social security number", form=_form(r"[12378]\d{14}"), module="fr.nir", chance=0.011),
    Kind(
        name="Italian tax code",
        form=_form(r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]"),
        module="it.codicefiscale",
        chance=0.04,
    ),
    Kind(name="Spanish DNI or NIE", form=_form(r"[XYZ]?\d{7,8}-?[A-Z]"), module="es.nif", chance=0.05),
    Kind(name="Brazilian CPF", form=_form(r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}"), module="br.cpf", chance=0.01),
    Kind(name="Indian Aadhaar", form=_form(r"[2-9]\d{3} ?\d{4} ?\d{4}"), module="in_.aadhaar", chance=0.1),
    Kind(name="German tax identifier", form=_form(r"[1-9]\d{10}"), module="de.idnr", chance=0.1),
    Kind(name="US social security number", form=_form(r"\d{3}-\d{2}-\d{4}"), module="us.ssn", chance=0.9),
    Kind(
        name="UK national insurance number",
        form=_form(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]"),
    ),
    Kind(name="UK NHS number", form=_form(r"\d{3}[ -]?\d{3}[ -]?\d{4}"), module="gb.nhs", chance=0.1),
    Kind(name="Dutch BSN", form=_form(r"\d{9}"), module="nl.bsn", chance=0.1),
    Kind(
        name="phone number",
        form=_form(
            r"(?:\+|00)[1-9]\d{0,2}[ .()/-]{0,2}(?:\d[ .()/-]{0,2}){6,12}\d"
            r"|\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4}"
        ),
    ),
    Kind(
        name="IP address",
        form=_form(r"(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}"),
        module="ip",
        chance=0.01,
    ),
    Kind(name="MAC address", form=_form(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}")),
    Kind(name="coordinates", form=_form(r"-?\d{1,2}\.\d{4,}, ?-?\d{1,3}\.\d{4,}")),
)


_IP = next(kind for kind in KINDS if kind.module == "ip")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words in a column's name. Whole words only: "username" is one, "rename" is none.
NAMES: dict[str, frozenset[str]] = {
    "IP address": _words("ip ipaddress"),
    "name of a person": _words(
        "name firstname lastname fullname surname forename givenname familyname middlename maidenname nickname"
    ),
    "email address": _words("email mail emailaddress"),
    "phone number": _words("phone telephone mobile cellphone phonenumber fax"),
    "date of birth": _words("dob birthdate birthday dateofbirth born birth"),
    "address": _words("address street streetaddress postaladdress"),
    "postal code": _words("zip zipcode postcode postalcode plz"),
    "identifier of a person": _words(
        "ssn nin nino nhs passport personid customerid patientid userid username login accountnumber iban mrn"
    ),
    "location": _words("latitude longitude lat lon lng gps geolocation"),
}
# Two words that mean one of the above when they stand together.
_JOINED = {word: kind for kind, words in NAMES.items() for word in words if len(word) > 6}
_NOT_PERSONS = _words(
    "file product item feature model column class brand company country city state drug test device host"
)

# Right check digits this likely by chance prove nothing; forms without any, in fewer cells than this, neither.
LUCK = 0.02
FEW = 0.1
# Of addresses at least three in four have an octet this large (of those that differ in the last alone; of others nearly
# all), of version strings hardly any.
_LARGE_OCTET = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A kind that values of a column look like.

    Attributes:
        kind: Name of the kind.
        share: Share of the distinct values looked at that hold one.
        checked: Whether the values carry check digits that are right far more often than by chance.
    """

    kind: str
    share: float
    checked: bool


def by_values(values: Iterable[str], *, within: bool = False) -> tuple[Match, ...]:
    """Kinds of personal data that ``values`` look like, the most frequent first.

    A kind with check digits is reported only where they are right more often, among the values of its form, than chance
    would give: a column of random sixteen-digit numbers, a tenth of which pass as payment cards, is not one; nor can
    a single value whose check lets a tenth through be told from luck.

    Args:
        values: Distinct values as text; empty ones are passed over.
        within: Whether the values are running text, in which one address among many words counts, instead of cells
            that are one as a whole.

    Returns:
        Matches, at most one a kind; none for no values.

    Raises:
        ImportError: Without python-stdnum.

    Source: ISO/IEC 7812-1 (payment cards), ISO 13616 (IBAN), and the national rules that python-stdnum cites.

    >>> [match.kind for match in by_values(["ann@example.org", "bob@example.org"])]
    ['email address']
    >>> by_values(["4111 1111 1111 1112"])
    ()
    """
    texts = [text for text in (value.strip() for value in values) if text]
    formed: dict[Kind, int] = {}
    right: dict[Kind, int] = {}
    quads: list[str] = []
    for text in texts:
        for kind, value, valid in _found(text, within):
            formed[kind] = formed.get(kind, 0) + 1
            right[kind] = right.get(kind, 0) + valid
            if valid and kind.module == "ip" and ":" not in value:
                quads.append(value)
    if _versions(quads):
        right[_IP] -= len(quads)
    found: list[Match] = []
    for kind, count in formed.items():
        checks = kind.chance < 1.0
        share = right[kind] / len(texts)
        if checks and _by_chance(right[kind], count, kind.chance) > LUCK:
            continue
        if not checks and not within and kind.name != "email address" and share < FEW:
            continue
        if share:
            found.append(Match(kind=kind.name, share=share, checked=checks))
    return tuple(sorted(found, key=lambda match: (-match.share, match.kind)))


def _versions(quads: list[str]) -> bool:
    """Whether four numbers with dots between are versions of something: most have small numbers only."""
    large = sum(any(int(octet) >= _LARGE_OCTET for octet in quad.split(".")) for quad in quads)
    return bool(quads) and 2 * large < len(quads)


def _found(text: str, within: bool) -> Iterable[tuple[Kind, str, bool]]:
    """Kinds whose form ``text`` has, with the value, and whether the check passes; of whole cells the first to pass."""
    formed: list[tuple[Kind, str, bool]] = []
    for kind in KINDS:
        match = kind.form.search(text) if within else kind.form.fullmatch(text)
        if match is None:
            continue
        valid = _check(kind)(match.group())
        if valid and not within:
            return [*formed, (kind, match.group(), True)]
        formed.append((kind, match.group(), valid))
    return formed


def _by_chance(right: int, count: int, chance: float) -> float:
    """Probability that ``right`` or more of ``count`` random values pass: 2 cards of 2 are 0.01, 1 of 1 is 0.1."""
    from scipy.stats import binom

    return float(binom.sf(right - 1, count, chance))


def _check(kind: Kind) -> Check:
    if not kind.module:
        return _always
    if kind.module == "ip":
        return _is_address
    check: Check = importlib.import_module(f"stdnum.{kind.module}").is_valid
    return lambda text: check(re.sub(r"[ -]", "", text))


def _always(text: str) -> bool:
    return True


def _is_address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def by_name(column: str) -> str | None:
    """The kind of personal data that a column's name suggests, or ``None``.

    >>> by_name("customer_first_name"), by_name("Date of birth"), by_name("feature_name"), by_name("income")
    ('name of a person', 'date of birth', None, None)
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    parts = [part.lower() for part in re.split(r"[^A-Za-z0-9]+", spaced) if part]
    joined = "".join(parts)
    for word, kind in _JOINED.items():
        if word in joined:
            return kind
    if set(parts) & _NOT_PERSONS:
        return None
    return next((kind for kind, words in NAMES.items() if words & set(parts)), None)
