"""Pictures of what was found."""

from statistics import mean, stdev

from benchmarks.reproduction.experiments import EPSILONS, EXPERIMENTS
from benchmarks.reproduction.findings import COLOURS, UNITS, clean, methods_of, under
from benchmarks.reproduction.trials import FGSM_EPSILONS


def draw_resistance(findings, axes):
    """Draw the error under FGSM along ε, one of the `axes` for each kind of units."""
    for axis, (net, units) in zip(axes, UNITS.items(), strict=True):
        for name, method in methods_of("mnist"):
            runs = findings.runs(name, net, method)
            if not runs:
                continue
            figures = [clean, *(under(f"FGSM {epsilon:g}") for epsilon in FGSM_EPSILONS)]
            middle = [mean(map(figure, runs)) for figure in figures]
            axis.plot((0, *FGSM_EPSILONS), middle, "o-", color=COLOURS[method], label=method)
        axis.set(title=f"{units} units", xlabel="ε of FGSM", ylim=(0, 100))
    axes[0].set_ylabel("test error (%)")
    lines = axes[-1].get_legend_handles_labels()
    axes[-1].figure.legend(*lines, loc="outside lower center", ncols=len(COLOURS))


def draw_epsilon(findings, axes):
    """Draw the test error, and the error under attack, along the ε of the training."""
    figures = {
        "test error (%)": clean,
        "error under PGD, ε = 0.1 (%)": under("PGD 0.1"),
    }
    for axis, (title, figure) in zip(axes, figures.items(), strict=True):
        for net in EXPERIMENTS["epsilon"].nets:
            found = {
                epsilon: list(map(figure, findings.runs("epsilon", net, f"{epsilon:g}")))
                for epsilon in EPSILONS
            }
            found = {epsilon: errors for epsilon, errors in found.items() if errors}
            spread = [stdev(e) if len(e) > 1 else 0.0 for e in found.values()]
            middle = [mean(e) for e in found.values()]
            axis.errorbar(list(found), middle, spread, marker="o", label=f"{UNITS[net]} units")
        axis.set(xlabel="ε of the training", ylabel=title)
    # From below 1 % to where nothing is learnt.
    ticks = (1, 2, 5, 10, 20, 50, 100)
    axes[0].set(yscale="log", yticks=ticks, yticklabels=ticks, ylim=(0.7, 100))
    axes[0].minorticks_off()
    axes[0].legend(*axes[0].get_legend_handles_labels())
