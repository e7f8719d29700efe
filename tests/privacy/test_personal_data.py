"""What looks like personal data: published example numbers, random look-alikes, names of columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.core.plan import Step
from auditkit.core.registry import load
from auditkit.execution.runner import run_step
from auditkit.methods.privacy.personal_data import by_name, by_values

# Example numbers that their issuers, or the standards, publish for testing.
PUBLISHED = {
    "IBAN": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "FR1420041010050500013M02606"],
    "payment card number": ["4111111111111111", "5500005555555559", "4012 8888 8888 1881", "3566002020360505"],
    "UK NHS number": ["943 476 5919", "401 023 2137"],
    "Spanish DNI or NIE": ["12345678Z", "X1234567L"],
    "Brazilian CPF": ["111.444.777-35", "390.533.447-05"],
    "Dutch BSN": ["111222333", "123456782"],
    "German tax identifier": ["36574261809", "86095742719"],
    "UK national insurance number": ["AB123456C", "JG 10 37 59 A"],
    "email address": ["ann@example.org", "b.c+d@mail.example.co.uk"],
    "phone number": ["+44 20 7946 0958", "212-555-0123", "+1 (212) 555-0123"],
    "IP address": ["192.0.2.17", "2001:db8::8a2e:370:7334"],
    "MAC address": ["00:1B:44:11:3A:B7"],
    "coordinates": ["40.712776, -74.005974"],
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_examples_are_recognised(kind):
    found = {match.kind: match.share for match in by_values(PUBLISHED[kind])}
    assert found.get(kind) == 1.0, found


@pytest.mark.parametrize(
    "kind", ["IBAN", "payment card number", "UK NHS number", "Brazilian CPF", "Spanish DNI or NIE"]
)
def test_a_wrong_check_digit_is_not_recognised(kind):
    broken = []
    for value in PUBLISHED[kind]:
        place = max(i for i, c in enumerate(value) if c.isdigit())
        broken.append(value[:place] + str((int(value[place]) + 1) % 10) + value[place + 1 :])
    assert kind not in {match.kind for match in by_values(broken)}


@pytest.mark.parametrize("width", [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18])
def test_random_numbers_of_any_width_are_quiet(width):
    rng = np.random.default_rng(width)
    numbers = ["".join(map(str, [rng.integers(1, 10), *rng.integers(0, 10, width - 1)])) for _ in range(2000)]
    assert by_values(numbers) == ()


VERSIONS = ["1.2.3.4", "1.2.3.5", "2.0.0.1", "4.18.2.0", "10.0.17.63", "3.1.4.1", "1.0.0.100"]


@pytest.mark.parametrize("within", [False, True])
def test_version_strings_are_no_addresses(within):
    texts = [f"upgraded to {own} last night" for own in VERSIONS] if within else VERSIONS
    assert by_values(texts, within=within) == ()
    assert by_name("ip") == "IP address"  # a column that says so is reported whatever its numbers are


@pytest.mark.parametrize("net", ["10.0.0.{}", "192.168.1.{}", "172.16.{}.7", "8.8.{}.8"])
def test_addresses_of_one_network_are_addresses(net):
    (match,) = by_values([net.format(host) for host in range(1, 255)])
    assert (match.kind, match.share) == ("IP address", 1.0)
    drawn = np.random.default_rng(0).integers(1, 255, (200, 4))
    assert by_values([".".join(map(str, row)) for row in drawn])[0].share == 1.0


def test_addresses_of_the_newer_kind_count_beside_version_strings():
    (match,) = by_values([*VERSIONS, "2001:db8::8a2e:370:7334", "2001:db8::1", "fe80::1"])
    assert (match.kind, match.share) == ("IP address", 0.3)


def test_ordinary_columns_are_quiet():
    words = [
        "Private",
        "State-gov",
        "HS-grad",
        ">50K",
        "10.5",
        "2020-01-31",
        "A11",
        "x_1",
        "#12",
        "5th-6th",
        "1.2.3",
        "",
    ]
    assert by_values(words) == ()
    assert by_values([]) == ()


def test_addresses_within_text_are_found():
    texts = ["call me at 212-555-0199 or write to ann@example.org, please", "no address here"]
    assert {match.kind: match.share for match in by_values(texts, within=True)} == {
        "email address": 0.5,
        "phone number": 0.5,
    }
    assert by_values(texts) == ()


@pytest.mark.parametrize(
    ("column", "kind"),
    [("customer_first_name", "name of a person"), ("dateOfBirth", "date of birth"), ("E-Mail", "email address"),
     ("ip_address", "IP address"), ("zip", "postal code"), ("patient_id", "identifier of a person"),
     ("patientId", "identifier of a person"),
     ("filename", None), ("rename", None), ("income", None), ("platform", None), ("relationship", None),
     ("latency", None), ("product_name", None), ("native-country", None), ("ship_mode", None)],
)  # fmt: skip
def test_names_of_columns(column, kind):
    assert by_name(column) == kind


def audited(frame):
    from auditkit.subjects.build import make_subject

    subject = make_subject(lambda X: np.zeros(len(X), dtype=int), frame, np.arange(len(frame)) % 2)
    analyzer = load("privacy.personal_data")
    return run_step(subject, Step(name=analyzer.name, params=analyzer.params(), analyzer=analyzer))


def test_a_planted_column_is_caught_whatever_its_name_and_the_clean_twin_is_quiet():
    frame = pd.DataFrame({"x": np.arange(40.0), "job": ["clerk", "nurse"] * 20})
    clean = audited(frame)
    assert [m.value for m in clean.measurements if m.name == "privacy.personal_data_columns"] == [0.0]
    assert clean.artifacts == ()
    asked = frame.assign(phone_service=["yes", "no"] * 20, has_email=np.arange(40) % 2 == 0)
    assert audited(asked).artifacts == ()  # a column of two values is nobody's number
    assert audited(frame.assign(phone_service=[f"no {i}" for i in range(40)])).artifacts != ()
    planted = audited(frame.assign(q7=[f"user{i}@example.org" for i in range(40)], big=4111111111111111))
    shares = {m.params["column"]: m for m in planted.measurements if m.name == "privacy.personal_data_share"}
    assert shares["q7"].value == 1.0
    assert shares["q7"].params["kind"] == "email address"
    (table,) = planted.artifacts
    assert not any("user" in str(cell) for row in table.rows for cell in row)  # no value is shown
