"""Epsilon and noise of auditkit against Google's PLD accountant, and what other accountants would have said.

Ten settings of noisy SGD (noise multiplier, sample rate, steps) at delta 1e-5. The PLD column is computed here from
dp-accounting directly, finer than auditkit's own second opinion, so that it is not auditkit's number twice. The last
table finds the noise for an epsilon and lets PLD tell what that noise spends.

Run: python benchmarks/accountants.py
"""

import time
import warnings

import dp_accounting
from dp_accounting.pld import PLDAccountant
from opacus.accountants import GaussianAccountant

from auditkit.methods.privacy.accounting import epsilon, noise_multiplier_for

DELTA = 1e-5
SETTINGS = (
    (1.0, 0.0512, 400),
    (2.0, 0.0512, 400),
    (4.0, 0.0512, 400),
    (1.1, 0.0043, 14_070),
    (1.0, 0.01, 1000),
    (0.5, 0.01, 100),
    (20.0, 0.0512, 400),
    (0.8, 0.02, 500),
    (1.5, 0.1, 100),
    (3.0, 0.2, 300),
)
TARGETS = ((8.0, 0.0512, 400), (3.0, 0.0512, 400), (1.0, 0.0512, 400), (0.5, 0.01, 1000))


def pld(noise, rate, steps):
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, 5e-5)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)), steps)
    return float(accountant.get_epsilon(DELTA))


def gdp(noise, rate, steps):
    accountant = GaussianAccountant()
    accountant.history = [(noise, rate, steps)]
    return float(accountant.get_epsilon(DELTA))


def main():
    warnings.simplefilter("ignore")
    print("| noise, rate, steps | auditkit (PRV) | PLD | difference | RDP / PLD (loose) | GDP / PLD (refused) |")
    print("| --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    for noise, rate, steps in SETTINGS:
        ours, theirs = epsilon(noise, rate, steps, DELTA), pld(noise, rate, steps)
        worst = max(worst, abs(ours - theirs))
        loose, refused = epsilon(noise, rate, steps, DELTA, "rdp") / theirs, gdp(noise, rate, steps) / theirs
        print(
            f"| {noise:g}, {rate:g}, {steps} | {ours:.4f} | {theirs:.4f} | {ours - theirs:+.4f} | {loose:.2f} "
            f"| {refused:.2f} |",
            flush=True,
        )
    print(f"\nLargest difference {worst:.4f}.\n")
    print("| asked for | rate, steps | noise found | PLD of it | CPU s |\n| --- | --- | --- | --- | --- |")
    for target, rate, steps in TARGETS:
        begun = time.process_time()
        noise = noise_multiplier_for(target, sample_rate=rate, steps=steps, delta=DELTA)
        spent = time.process_time() - begun
        print(
            f"| {target:g} | {rate:g}, {steps} | {noise:.4f} | {pld(noise, rate, steps):.4f} | {spent:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
