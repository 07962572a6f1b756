"""What ``dtype="auto"`` costs: a fit in float64 against one in float32, by the size of X.

python -m benchmarks.speed.dtype
"""

import argparse
import time

import numpy as np
import torch
from sklearn.datasets import make_classification

from benchmarks.passport import RESULTS, write_json
from sk_advbp import AdvBPClassifier

SHAPES = [(178, 13), (569, 30), (1797, 64), (5000, 20), (5000, 40), (5000, 100), (10000, 100)]


def seconds(X, y, dtype):
    """Return the processor time of ten epochs with the default net."""
    net = AdvBPClassifier(dtype=dtype, max_epochs=10, random_state=0, device="cpu")
    start = time.process_time()
    net.fit(X, y)
    return time.process_time() - start


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for n, d in SHAPES:
        X, y = make_classification(n, d, n_informative=min(d, 10), random_state=0)
        seconds(X, y, "float64")
        pairs = [
            [seconds(X, y, dtype) for dtype in ("float64", "float32")] for _ in range(given.repeats)
        ]
        ratio = float(np.median([a / b for a, b in pairs]))
        rows.append({"n": n, "d": d, "values": n * d, "pairs": pairs, "ratio": ratio})
        print(
            f"{n:>6} x {d:<4} {n * d:>8} values: float64 takes {ratio:.2f} of float32", flush=True
        )
    write_json(RESULTS / "dtype.json", {"clock": "process time", "rows": rows})


if __name__ == "__main__":
    main()
