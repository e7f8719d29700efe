"""How often the cross-examination of a robustness number flags planted gradient masking, and honest networks.

Faults and networks are those of tests/robustness. Run: python benchmarks/masking_checks.py
"""

import collections
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "robustness"))

from masking_faults import FAULTS, LATER_FAULTS, Fault
from masking_zoo import EPS, HONEST, ROWS, TRAIN, data, trained

from auditkit.methods.robustness import cross_examine


def examined(model, name, norm="linf", eps=None):
    x, y = (part[TRAIN[name] :] for part in data(name))
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    x = x.to(dtype)
    begun = time.process_time()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = cross_examine(
            model, x[:ROWS], y[:ROWS], eps=eps or EPS[name], norm=norm, reference=(x[ROWS:], y[ROWS:])
        )
    failed = [f"{check.name} ({check.observed:.2g})" for check in found.checks if not check.passed]
    standing = 1.0 - float(found.fooled.double().mean())
    return failed, standing, time.process_time() - begun, found.n_evaluations / ROWS


def faults(title, listed):
    rows = [(name, *examined(Fault(trained("relu"), fault), "digits")) for name, fault in listed.items()]
    print(f"\n### {title}: {sum(bool(row[1]) for row in rows)} of {len(rows)} flagged\n")
    print("| fault | accuracy left | failed checks |\n|---|---|---|")
    for name, failed, standing, _, _ in rows:
        print(f"| {name} | {standing:.2f} | {'; '.join(failed) or 'none'} |")


def faults_under(norm, eps):
    every = FAULTS | LATER_FAULTS
    missed = [
        name for name, fault in every.items() if not examined(Fault(trained("relu"), fault), "digits", norm, eps)[0]
    ]
    print(f"\n### Planted faults under {norm}: {len(every) - len(missed)} of {len(every)} flagged\n")
    print(f"Missed: {'; '.join(missed) or 'none'}.")


def honest(norm, eps, specs):
    rows = [(spec, *examined(trained(*spec), (*spec, "digits")[3], norm, eps)) for spec in specs]
    flagged = [(spec, failed) for spec, failed, *_ in rows if failed]
    kinds = collections.Counter((*spec[2:4],) for spec in specs)
    print(f"\n### Honest networks under {norm}: {len(flagged)} of {len(rows)} flagged\n")
    print("; ".join(f"{count} {' '.join(kind)}" for kind, count in kinds.items()) + ".")
    for spec, failed in flagged:
        print(f"\n- {spec}: {'; '.join(failed)}")
    seconds, asked = (sum(row[place] for row in rows) / len(rows) for place in (3, 4))
    print(f"\n{seconds:.1f} CPU s and {asked:.0f} evaluations a row, on average.")


def main():
    torch.set_num_threads(1)
    faults("Planted faults", FAULTS)
    faults("Faults written after the checks were settled", LATER_FAULTS)
    honest("linf", None, HONEST)
    plain = [spec for spec in HONEST if len(spec) == 3]
    for norm, eps in (("l2", 0.5), ("l1", 2.0)):
        faults_under(norm, eps)
        honest(norm, eps, plain)


if __name__ == "__main__":
    main()
