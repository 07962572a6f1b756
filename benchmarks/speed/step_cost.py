"""Time of one training step: ours, autograd by hand, skorch; and of a matrix product.

    python -m benchmarks.speed.step_cost

About 4 minutes on 2 cores. The time of a step is the median epoch's, over its number of
steps: what a fit does once does not count. ``--profile`` adds where the time of ours goes,
``--compile`` the step as torch compiles it, which takes a minute more and a C++ compiler.
"""

import cProfile
import io
import os
import pstats
import time
from functools import partial
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import command_line, compare, finish, say, using_threads
from benchmarks.speed.peers import (
    ADVERSARIAL,
    OURS,
    PLAIN,
    SKORCH,
    adversarial_loop,
    adversarial_loop_in_full,
    minimal_skorch,
    ours,
    plain_loop,
)
from benchmarks.speed.work import mnist_works, small_works


def microseconds(seconds_of_epochs, work):
    """Return the time of a step; the first epoch, which sets things up, does not count."""
    return 1e6 * median(seconds_of_epochs[1:]) / work.steps


def step_of_loop(loop, work):
    """Return the time of a step in a loop by hand."""
    return microseconds(loop(work), work)


def step_of_net(net, work):
    """Return the time of a step by the history of a net; ours is one of skorch, too."""
    return microseconds(net(work).fit(work.X, work.y).history[:, "dur"], work)


def contestants(compiled):
    """Return {name: function of a work that gives the time of its step}."""
    nets = {name: partial(ours, **options) for name, options in OURS.items()}
    nets["ours, ε = 0 (plain)"] = partial(ours, epsilon=0.0)
    if compiled:
        nets["ours, compiled"] = partial(ours, perturbation_dtype="float32", compile=True)
    loops = {
        PLAIN: plain_loop,
        ADVERSARIAL: adversarial_loop,
        "the same, first pass in full": adversarial_loop_in_full,
    }
    return (
        {name: partial(step_of_net, net) for name, net in nets.items()}
        | {name: partial(step_of_loop, loop) for name, loop in loops.items()}
        | {SKORCH: partial(step_of_net, minimal_skorch)}
    )


def products(given):
    """Compare the speed of matrix products, which sets what bfloat16 can gain on large nets."""
    units, rows, times = (30, 64, 2) if given.quick else (1200, 512, 50)
    threads = given.threads or os.cpu_count()

    def multiply(dtype):
        a, b = torch.ones(units, units, dtype=dtype), torch.ones(units, rows, dtype=dtype)
        start = time.perf_counter()
        for _ in range(times):
            a @ b
        return 1e6 * (time.perf_counter() - start) / times

    return compare(
        f"one product of {units}×{units} and {units}×{rows}",
        {name: partial(multiply, getattr(torch, name)) for name in ("bfloat16", "float32")},
        repeats=given.repeats,
        threads=threads,
        ours=["bfloat16"],
        unit="µs",
    )


def python_profile(fit, rows=12):
    """Return the functions that take most of the time of ``fit()``."""
    profiler = cProfile.Profile()
    profiler.runcall(fit)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(rows)
    return text.getvalue().strip()


def torch_profile(fit, rows=12):
    """Return the operations of torch that take most of the time of ``fit()``."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        fit()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows)


def profiles(works):
    """Return where the time of each of ours goes, as text."""
    parts = []
    for work in works:
        for name, options in OURS.items():
            say(f"profile: {work.name}, {name}")

            def fit(work=work, options=options):
                ours(work, **options).fit(work.X, work.y)

            with using_threads(work.threads):
                fit()
                tables = python_profile(fit), torch_profile(fit)
            parts += [f"=== {work.name}: {name} ===", *tables]
    return "\n\n".join(parts)


def main(argv=None):
    """Measure, print, write; `argv` takes the place of the command line."""
    parser = command_line(__doc__.splitlines()[0], __file__)
    parser.add_argument("--profile", action="store_true", help="where the time of ours goes")
    parser.add_argument("--compile", action="store_true", help="ours with compile=True, too")
    given = parser.parse_args(argv)
    started = time.perf_counter()
    torch.manual_seed(0)
    works = [w for w in mnist_works(given) if (w.kind, w.batch_size) != ("2×400", 512)]
    works = [w.of_steps(*(1, 2) if given.quick else (20, 3)) for w in works]
    works = [w.of_steps(w.steps, 2 if given.quick else 12) for w in small_works(given)] + works
    comparisons = []
    for work in works:
        steps = {name: partial(step, work) for name, step in contestants(given.compile).items()}
        comparisons.append(
            compare(
                work.name.rpartition(",")[0],
                steps,
                repeats=given.repeats,
                threads=work.threads,
                ours=list(OURS),
                unit="µs",
            )
        )
    comparisons.append(products(given))
    finish(given, comparisons, started)
    if given.profile:
        text = profiles(works)
        given.json.with_suffix(".profile.txt").write_text(text + "\n", encoding="utf-8")
        print("", text, sep="\n")


if __name__ == "__main__":
    main()
