"""CPU time per image of the fifteen corruptions against the imagecorruptions package, at severity 3.

The package needs an environment of its own (imagecorruptions 1.1.2 with numpy 1.26); its Python is the argument:

    python benchmarks/corruptions_vs_imagecorruptions.py path/to/that/python > benchmarks/results/corruptions.md

Both sides run on one thread of one core, in turn, on the same 224 x 224 RGB images: ours on a batch of 16, the package
one image at a time, three images each; of several turns the quickest counts on either side. First each corruption has a
process of its own on either side, as when a data set is made with it. Then one process a side goes through all fifteen
again and again: its memory has been obtained from the system by then, which the package otherwise does anew for each
image. The reading and writing of images is outside both. What no program can do without is timed beside them. Agreement
with the scripts of ImageNet-C and CIFAR-10-C to a step of 1/255 is held by
tests/robustness/test_robustness_corruptions.py; elastic maps are those of ImageNet-C here, which have an affine part
that those of the package lack.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ALONE, TOGETHER, GLASS = 12, 10, 2
LOOP = """
import io, json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from PIL import Image
pictures = np.load(sys.argv[1])
picture = Image.fromarray(pictures[0])
def coded():
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=15)
    Image.open(file).load()
def timed(call, images):
    begin = time.process_time()
    call()
    return 1000 * (time.process_time() - begin) / images
"""
SERVE = """
for word in sys.stdin:
    call, count = named(word.strip())
    print(json.dumps(timed(call, count)), flush=True)
"""
PEER = """
from imagecorruptions import corruptions
smooth = corruptions.gaussian
corruptions.gaussian = lambda *a, multichannel=False, **k: smooth(*a, channel_axis=-1 if multichannel else None, **k)
images = [Image.fromarray(image) for image in pictures]
def named(name):
    if name == "coded":
        return coded, 1
    some = images[:1] if name == "glass_blur" else images
    return lambda: [np.asarray(getattr(corruptions, name)(image, 3)) for image in some], len(some)
"""
OURS = """
import torch
from auditkit.methods.robustness.corruptions import corrupt, weather
torch.set_num_threads(1)
batch = torch.from_numpy(np.stack([pictures[0]] * 16).transpose(0, 3, 1, 2) / 255.0).float().contiguous()
planes, line, total = torch.rand(3, 240, 240), torch.rand(3, 60_000), torch.zeros(3, 56_000)
spectrum = torch.fft.rfft2(planes)
turn = torch.tensor([[[1.0, 0.1, 0.0], [-0.1, 1.0, 0.0]]])
grid = torch.nn.functional.affine_grid(turn, (1, 3, 224, 224), align_corners=False)
def added():
    for plane, out in zip(line, total):
        for tap in range(31):
            out.add_(plane[100 * tap : 100 * tap + 56_000], alpha=0.03)
def sampled():
    for _ in range(2):
        torch.nn.functional.grid_sample(batch[:1], grid, padding_mode="reflection", align_corners=False)
floors = {
    "coded": coded,
    "transformed": lambda: (torch.fft.rfft2(planes), torch.fft.irfft2(spectrum, s=(240, 240))),
    "added": added,
    "sampled": sampled,
    "sheets": lambda: (weather._sheets.cache_clear(), weather._sheets(224, 224)),
}
def named(name):
    if name in floors:
        return floors[name], 1
    if name == "passed":
        return lambda: (torch.aminmax(batch), batch.clone()), len(batch)
    return lambda: corrupt(batch, name, 3), len(batch)
"""
MEMORY = """
import resource, torch
from auditkit.methods.robustness.corruptions import NAMES, corrupt
torch.set_num_threads(1)
batch = torch.rand(128, 3, 224, 224)
held = batch.clone()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
del held
for name in NAMES:
    corrupt(batch, name, 3)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
FLOORS = {
    "passed": "an image read and written once, with the check of its range",
    "coded": "JPEG of quality 15 coded and decoded by Pillow, here",
    "coded there": "the same in the package's Python",
    "transformed": "defocus: the Fourier transforms of three channels, there and back",
    "added": "motion blur: 31 shifted copies of three channels, added up",
    "sampled": "elastic: bilinear values of three channels at the places of two maps",
}
HEAD = """
# Image corruptions against imagecorruptions 1.1.2

CPU milliseconds per 224 x 224 RGB image at severity 3, one thread of one core, both sides in turn, the quickest of
{turns} turns each ({right} on the right, {glass} for glass_blur); x86-64, 2 cores, Python {python},
torch {torch}. Left, each corruption in processes of its own; right, one process a side for all.

| corruption | auditkit | imagecorruptions | ratio | auditkit | imagecorruptions | ratio |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""
NOTES = """
Median ratio {middle[0]:.1f} and {middle[1]:.1f}; {tenfold[0]} and {tenfold[1]} of the fifteen take a tenth of the time
or less. The package asks the system for memory anew for each image while it makes one corruption (some 900 pages), and
no more once it has been through all of them.

| what cannot be done without, alone | CPU milliseconds |
| --- | ---: |
{alone}

JPEG is Pillow's on both sides, and cannot be quicker by more than what surrounds it. Pixelate is short beside the
passes over an image of floats, which is what a model reads; Pillow works on bytes. The package's frost reads a
photograph from disk; ours cuts six sheets of ice, which are drawn once for a size of image ({sheets:.0f} ms, not
counted). Elastic maps are those of ImageNet-C here, with the affine part that the package leaves out. Random numbers of
noise come from tables of their distribution.

Memory above a batch of 128 images and its result, all fifteen in turn: {memory:.0f} MB.
"""


class Side:
    """A process that times what it is told by name."""

    def __init__(self, python, setting, images):
        command = [python, "-c", LOOP + setting + SERVE, images]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ
        )

    def ask(self, name):
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def apart(python, images, names):
    """The quickest CPU milliseconds per image of ours and of the package's, each corruption in processes of its own."""
    quickest = {}
    for name in names:
        with Side(sys.executable, OURS, images) as ours, Side(python, PEER, images) as theirs:
            ours.ask(name)
            turns = [(ours.ask(name), theirs.ask(name)) for _ in range(GLASS if name == "glass_blur" else ALONE)]
        quickest[name] = tuple(min(times) for times in zip(*turns, strict=True))
    return quickest


def through(python, images, names):
    """The same with one process a side for all of them, and what was timed alone."""
    turns, floors = {name: [] for name in names}, {name: [] for name in (*FLOORS, "sheets")}
    with Side(sys.executable, OURS, images) as ours, Side(python, PEER, images) as theirs:
        for turn in range(TOGETHER):
            for name in names:
                if name != "glass_blur" or turn < GLASS:
                    turns[name].append((ours.ask(name), theirs.ask(name)))
            for name in floors:
                floors[name].append(theirs.ask("coded") if name == "coded there" else ours.ask(name))
    quickest = {name: tuple(min(times) for times in zip(*found, strict=True)) for name, found in turns.items()}
    return quickest, {name: min(found) for name, found in floors.items()}


def main(python):
    import numpy as np
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "robustness" / "reference"))
    from picture import picture

    from auditkit.methods.robustness.corruptions import NAMES

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    with tempfile.TemporaryDirectory() as folder:
        images = str(Path(folder) / "images.npy")
        np.save(images, np.stack([picture(224)] * 3))
        one_process, floors = through(python, images, NAMES)
        own_process = apart(python, images, NAMES)
    memory = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    version = sys.version.split()[0]
    print(HEAD.strip().format(turns=ALONE, right=TOGETHER, glass=GLASS, python=version, torch=torch.__version__))
    rest = [name for name in NAMES if name != "glass_blur"]
    rows = [(name, [name]) for name in NAMES] + [("all fifteen", NAMES), ("all but glass_blur", rest)]
    for title, kept in rows:
        cells = []
        for table in (own_process, one_process):
            ours, theirs = (sum(table[name][side] for name in kept) for side in (0, 1))
            cells += [f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}"]
        print(f"| {title} | " + " | ".join(cells) + " |")
    ratios = [[theirs / ours for ours, theirs in table.values()] for table in (own_process, one_process)]
    middle, tenfold = [statistics.median(found) for found in ratios], [sum(r >= 10 for r in found) for found in ratios]
    alone = "\n".join(f"| {what} | {floors[name]:.2f} |" for name, what in FLOORS.items())
    notes = {"middle": middle, "tenfold": tenfold, "alone": alone, "sheets": floors["sheets"], "memory": float(memory)}
    print(NOTES.format(**notes).rstrip())


main(*sys.argv[1:])
