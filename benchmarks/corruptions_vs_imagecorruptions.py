"""CPU time per image of the fifteen corruptions against the imagecorruptions package, at severity 3.

The package needs an environment of its own (imagecorruptions 1.1.2 with numpy 1.26); its Python is the argument:

    python benchmarks/corruptions_vs_imagecorruptions.py path/to/that/python > benchmarks/results/corruptions.md

Both sides run on one thread, in turn, corruption by corruption, on the same 224 x 224 RGB images: ours on a batch of
16, the package one image at a time, three images each; of three turns the quickest counts on either side. The reading
and writing of images is outside both. Agreement with the scripts of ImageNet-C and CIFAR-10-C to a step of 1/255 is
held by tests/robustness/test_robustness_corruptions.py; elastic maps are those of ImageNet-C here, which have an affine
part that those of the package lack.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

TURNS = 3
PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from PIL import Image
from imagecorruptions import corruptions
smooth = corruptions.gaussian
corruptions.gaussian = lambda *a, multichannel=False, **k: smooth(*a, channel_axis=-1 if multichannel else None, **k)
images = [Image.fromarray(image) for image in np.load(sys.argv[1])]
for name in sys.stdin:
    begin, count = time.process_time(), 1 if name.strip() == "glass_blur" else len(images)
    for image in images[:count]:
        np.asarray(getattr(corruptions, name.strip())(image, 3))
    print(json.dumps((time.process_time() - begin) / count), flush=True)
"""


def main(python):
    import tempfile

    import numpy as np
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "robustness" / "reference"))
    from picture import picture

    from auditkit.methods.robustness.corruptions import NAMES, corrupt

    torch.set_num_threads(1)
    image = picture(224)
    batch = torch.from_numpy(np.stack([image] * 16).transpose(0, 3, 1, 2) / 255.0).float().contiguous()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, np.stack([image] * 3))
        peer = subprocess.Popen(
            [python, "-c", PEER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        rows = []
        for name in NAMES:
            corrupt(batch[:2], name, 3)
            ours, theirs = [], []
            for _ in range(TURNS):
                begin = time.process_time()
                corrupt(batch, name, 3)
                ours.append((time.process_time() - begin) / len(batch))
                peer.stdin.write(name + "\n")
                peer.stdin.flush()
                theirs.append(json.loads(peer.stdout.readline()))
            rows.append((name, min(ours), min(theirs)))
        peer.stdin.close()
        peer.wait()
    print("# Image corruptions against imagecorruptions 1.1.2\n")
    print("CPU milliseconds per 224 x 224 RGB image at severity 3, one thread, both sides in one run, the quickest of")
    print(f"{TURNS} turns each; x86-64, 2 cores, Python {sys.version.split()[0]}, torch {torch.__version__}.\n")
    print("| corruption | auditkit | imagecorruptions | ratio |\n| --- | ---: | ---: | ---: |")
    for name, ours, theirs in rows:
        print(f"| {name} | {1000 * ours:.2f} | {1000 * theirs:.2f} | {theirs / ours:.1f} |")
    own, other = sum(row[1] for row in rows), sum(row[2] for row in rows)
    print(f"| all fifteen | {1000 * own:.1f} | {1000 * other:.1f} | {other / own:.1f} |")
    rest = [row for row in rows if row[0] != "glass_blur"]
    own, other = sum(row[1] for row in rest), sum(row[2] for row in rest)
    print(f"| all but glass_blur | {1000 * own:.1f} | {1000 * other:.1f} | {other / own:.1f} |")
    print(
        f"\nMedian ratio {statistics.median(row[2] / row[1] for row in rows):.1f}. Frost: ours draws its pattern, the"
    )
    print(
        "package reads a photograph from disk. Elastic maps are those of ImageNet-C here, with the affine part that the"
    )
    print(
        "package leaves out. Pixelate and JPEG: the package calls Pillow, which works on bytes; ours works on floats."
    )


main(*sys.argv[1:])
