"""What was found, in sentences: each claim with its verdict."""

from math import sqrt
from statistics import mean

from benchmarks.harness import mean_in_words
from benchmarks.reproduction import final, search_halves
from benchmarks.reproduction.cells import in_words
from benchmarks.reproduction.experiments import (
    ADVERSARIAL,
    BOTH,
    DECAY,
    DROPOUT,
    EPSILONS,
    EXPERIMENTS,
    PLAIN,
    SIGNS,
)
from benchmarks.reproduction.findings import (
    FOOLED_BY,
    NEIGHBOURS,
    OF_MAXOUT,
    OF_THE_PAPER,
    UNITS,
    carried,
    clean,
    gap,
    over_seeds,
    under,
)


def compared(runs, figure, whose):
    """Return in words how the mean test error of `runs` stands to a `figure` of others."""
    distance = mean(map(clean, runs)) - figure
    if abs(distance) < 0.005:
        return f"{whose} {figure:.2f} %"
    side = "above" if distance > 0 else "below"
    return f"{abs(distance):.2f} points {side} {whose} {figure:.2f} %"


def seeds_in_words(runs):
    """Return the number of seeds, and what a single one is worth."""
    return f"{len(runs)} seeds" if len(runs) > 1 else "a single seed so far, no claim"


def gains(runs, over):
    """Return by how many points of test error, seed by seed, `runs` are better than `over`."""
    return [clean(b) - clean(a) for a, b in zip(runs, over, strict=True)]


def lower(runs, than, figure=clean):
    """Return whether a figure of `runs` is below that of the others in every seed."""
    return all(figure(a) < figure(b) for a, b in zip(runs, than, strict=True))


def verdict(truth, runs):
    """Return what becomes of a claim, of which nothing is said by a single seed."""
    if len(runs) < 2:
        return "is not judged yet"
    return "holds" if truth else "does not hold"


def mnist_sentences(findings):
    """Return what the runs say of the paper's claims on MNIST."""
    sentences = []
    for net, units in UNITS.items():
        runs = findings.pairs("mnist", net, (PLAIN, SIGNS, ADVERSARIAL))
        plain, signs, adversarial = runs.values()
        if not plain:
            continue
        text = (
            f"With {units} units the claim {verdict(lower(adversarial, plain), plain)}: "
            f"adversarial back-propagation takes the test error from {over_seeds(plain)} to "
            f"{over_seeds(adversarial)} % ({seeds_in_words(plain)}). Random signs of the same ε "
            f"take it to {over_seeds(signs)} %."
        )
        if (net, ADVERSARIAL) in OF_THE_PAPER:
            without, with_it = (
                compared(runs[method], OF_THE_PAPER[net, method], "the paper’s")
                for method in (PLAIN, ADVERSARIAL)
            )
            text += f" Plain back-propagation is {without}, adversarial {with_it}."
        sentences.append(text)
    return sentences


def standard_error_in_words(figure, n_images=10_000):
    """Return what so many test images leave open of an error of `figure` percent."""
    error = sqrt(figure * (100 - figure) / n_images)
    return (
        f"On {n_images:,} test images an error of {figure:.2f} % has a standard error of "
        f"{error:.2f} points."
    )


def reached(runs, figure):
    """Return whether the mean test error of `runs` is down to the `figure`, in words."""
    if len(runs) < 2:
        return "not judged yet"
    return "reached" if round(mean(map(clean, runs)), 2) <= figure else "missed"


def on_validation(searched, changes):
    """Return the error that was found for the `changes`, and how far the next candidate is."""
    by_changes = {one.changes: one for one in searched}
    if changes not in by_changes:
        return ""
    found = by_changes.pop(changes).of("error")
    nearest = min((one.error for one in by_changes.values()), default=None)
    others = f", the others {nearest:.2f} % and more" if nearest is not None else ""
    return f", which has {mean_in_words(found)} % on the validation images{others}"


def final_sentences(findings):
    """Return whether the paper's figures were reached with the settings that were searched for."""
    sentences = []
    for of_round in final.ROUNDS:
        for units, of in final.CHOSEN[of_round].items():
            if runs := findings.finals(of_round, units):
                figure = OF_THE_PAPER[units, ADVERSARIAL]
                changes = ", ".join(in_words(of["changes"]))
                first = of_round == final.ROUNDS[0]
                found = on_validation(findings.searched(units), changes) if first else ""
                chosen = (
                    f"With {UNITS[units]} units the {of_round} search chose {changes}{found}. "
                    f"Trained on all images, the nets with it have a test error of "
                    f"{over_seeds(runs)} % ({seeds_in_words(runs)}), "
                    f"{compared(runs, figure, 'the paper’s')}: the mark is {reached(runs, figure)}."
                )
                beside = beside_the_finals(findings, of_round, units)
                sentences.append(" ".join([chosen, *beside]))
    if sentences:
        sentences.append(standard_error_in_words(min(OF_THE_PAPER.values())))
    return sentences


def halves_sentences(findings):
    """Return which of the small nets has the lowest error, and by how much."""
    sentences = []
    for units in search_halves.START:
        found, start = search_halves.of_units(units, findings.folder / "search_halves")
        if start and len(found) > 1:
            best = found[0]
            sentences.append(
                f"With {UNITS[units]} units the lowest error of {len(found)} settings is "
                f"{mean_in_words(best.of('error'))} % ({best.changes or 'the start'}), "
                f"{search_halves.above(best, start)} points from the start’s over the same "
                f"{len(best.figures)} seeds, ± the standard error."
            )
    return sentences


CONTROLS = {PLAIN: "Plain back-propagation", SIGNS: "A step of random signs"}
IN_WORDS = {
    PLAIN: "plain back-propagation",
    DECAY: "weight decay",
    DROPOUT: "dropout",
    ADVERSARIAL: "adversarial back-propagation",
    SIGNS: "random signs",
}
COLUMNS = {"cifar": "standardised colours", "cifar zca": "whitened columns"}


def beside_the_finals(findings, of_round, units):
    """Return what their controls have, and what all of them have together."""
    found = {name: findings.finals(of_round, units, method) for method, name in CONTROLS.items()}
    sentences = [
        f"{name}, all else the same, has {over_seeds(runs)} % ({seeds_in_words(runs)})."
        for name, runs in found.items()
        if runs
    ]
    if together := findings.together(of_round, units):
        sentences.append(
            f"All {together['n_nets']} adversarial nets together, by the mean of their "
            f"probabilities, have {together['error']:.2f} %."
        )
    return sentences


def final_in_short(findings):
    """Return the same in short; empty before."""
    sentences = []
    for units in UNITS:
        found = {
            of_round: runs
            for of_round in final.ROUNDS
            if units in final.CHOSEN[of_round] and (runs := findings.finals(of_round, units))
        }
        if found:
            figure = OF_THE_PAPER[units, ADVERSARIAL]
            after = [
                f"{over_seeds(runs)} % after the {of_round} search ({seeds_in_words(runs)}; the "
                f"paper’s {figure:.2f} % is {reached(runs, figure)})"
                for of_round, runs in found.items()
            ]
            sentences.append(f"With {UNITS[units]} units it is {' and '.join(after)}.")
    if not sentences:
        return ""
    return (
        "What error a single net without dropout comes down to was searched for at greater length, "
        "on held-out training images; a second search began when the test errors of the first "
        "one’s choice were known. " + " ".join(sentences)
    )


def resistance_sentences(findings):
    """Return what the runs say of the resistance to adversarial examples."""
    sentences = []
    for net, units in UNITS.items():
        plain, adversarial = findings.pairs("mnist", net, (PLAIN, ADVERSARIAL)).values()
        if not plain:
            continue
        figures = [under(attack) for attack in FOOLED_BY]
        fgsm, pgd = (
            f"from {over_seeds(plain, figure)} to {over_seeds(adversarial, figure)} %"
            for figure in figures
        )
        truth = all(lower(adversarial, plain, figure) for figure in figures)
        sentences.append(
            f"With {units} units the claim {verdict(truth, plain)}: the error under FGSM of "
            f"ε = 0.1, within [0, 1], goes {fgsm}, under PGD {pgd} ({seeds_in_words(plain)})."
        )
    return sentences


def transfer_sentences(findings):
    """Return what the runs say of examples that are carried from net to net."""
    sentences = []
    for net, units in UNITS.items():
        runs = findings.runs("mnist", net, "transfer")
        if runs:
            there = over_seeds(runs, carried(PLAIN, ADVERSARIAL, "FGSM 0.25"))
            back = over_seeds(runs, carried(ADVERSARIAL, PLAIN, "FGSM 0.25"))
            sentences.append(
                f"With {units} units the examples of ε = 0.25 against the plain net give the "
                f"adversarial one an error of {there} %, those against the adversarial net give "
                f"the plain one {back} % ({seeds_in_words(runs)})."
            )
    if sentences:
        there, back, source = OF_MAXOUT.values()
        sentences.append(f"For maxout nets {there} and {back} % are reported ({source}).")
    return sentences


def change_in_words(gained):
    """Return by how much an error changes, which falls by what is gained."""
    change = [0.0 - gain for gain in gained]
    return ("+" if mean(change) > 0 else "") + mean_in_words(change)


def like_dropout(runs):
    """Return what becomes of the claim of an effect like dropout's, by the gains in test error."""
    ours, theirs = (mean(gains(runs[method], runs[PLAIN])) for method in (ADVERSARIAL, DROPOUT))
    if theirs <= 0:
        return "is not judged, since dropout gains nothing"
    return verdict(0.5 <= ours / theirs <= 2, runs[PLAIN])


def cifar_sentences(findings, experiment):
    """Return what the runs say of the likeness to dropout on CIFAR-10."""
    methods = [method for method in EXPERIMENTS[experiment].methods if method != BOTH]
    runs = findings.pairs(experiment, "relu", methods)
    plain = runs[PLAIN]
    if not plain:
        return []
    gained = {method: gains(of, plain) for method, of in runs.items() if method != PLAIN}
    changes = (f"{change_in_words(gain)} points with {IN_WORDS[m]}" for m, gain in gained.items())
    gaps = (f"{over_seeds(of, gap)} points with {IN_WORDS[m]}" for m, of in runs.items())
    sentences = [
        f"On {COLUMNS[experiment]} plain back-propagation, without weight decay, has a test error "
        f"of {over_seeds(plain)} % ({seeds_in_words(plain)}). It changes by {', '.join(changes)}.",
        f"The claim {like_dropout(runs)}, if similar means a gain in test error from half to twice "
        "that of dropout.",
        f"The test error is above the training error by {', '.join(gaps)}.",
    ]
    dropout, both = findings.pairs(experiment, "relu", (DROPOUT, BOTH)).values()
    if both:
        sentences.append(
            f"Beside dropout, adversarial back-propagation changes the test error of dropout alone "
            f"by {change_in_words(gains(both, dropout))} points ({seeds_in_words(both)})."
        )
    return sentences


def inputs_sentences(findings):
    """Return what the candidates on CIFAR-10 say of whitened columns."""
    standardised, whitened = (findings.lowest_of_choice(name, "relu") for name in COLUMNS)
    pairs = {m: (whitened[m], standardised[m]) for m in whitened if m in standardised}
    if not pairs:
        return []
    beside = ", ".join(
        f"{a:.2f} against {b:.2f} % with {IN_WORDS[m]}" for m, (a, b) in pairs.items()
    )
    return [
        f"The lowest validation errors on whitened columns, against those on standardised ones, "
        f"are {beside}: one seed, the same number of candidates of 24 epochs."
    ]


def beyond_sentences(findings):
    """Return how the net that was best on the validation images does on the test images."""
    table = findings.tables["beyond"]
    sentences = []
    for method in table.final_methods("relu"):
        runs = findings.runs("beyond", "relu", method)
        if runs:
            marks = [
                compared(runs, error, f"that of {name},") + f" ({where})"
                for name, (error, where) in NEIGHBOURS.items()
            ]
            sentences.append(
                f"Of {len(table.experiment.methods)} candidates “{method}” did best on the "
                f"validation images. Its test error, {over_seeds(runs)} % "
                f"({seeds_in_words(runs)}), is {'; '.join(marks)}."
            )
    together = [
        (found["error"], of_round, units, found["n_nets"])
        for of_round in final.ROUNDS
        for units in final.CHOSEN[of_round]
        if (found := findings.together(of_round, units))
    ]
    if together:
        error, of_round, units, n_nets = min(together)
        sentences.append(
            f"Of the {len(together)} groups of nets with the settings of the searches, each of "
            "which answers by the mean of its probabilities, the lowest test error is "
            f"{error:.2f} %, of the {n_nets} nets with {UNITS[units]} units that the {of_round} "
            "search chose; it is picked by the test error itself."
        )
    return sentences


def epsilon_sentences(findings):
    """Return what to expect along ε."""
    sentences = []
    for net, units in UNITS.items():
        if net not in EXPERIMENTS["epsilon"].nets:
            continue
        along = findings.pairs("epsilon", net, [f"{epsilon:g}" for epsilon in EPSILONS])
        if not all(along.values()):
            continue
        errors = {epsilon: mean(map(clean, runs)) for epsilon, runs in along.items()}
        fooled = {e: mean(map(under("PGD 0.1"), runs)) for e, runs in along.items()}
        best, hardest = min(errors, key=errors.get), min(fooled, key=fooled.get)
        helps = [epsilon for epsilon, error in errors.items() if error < errors["0"]]
        by_one_step = {e: mean(map(under("FGSM 0.1"), runs)) for e, runs in along.items()}
        collapsed = [e for e, error in by_one_step.items() if error < errors[e] / 2 < fooled[e] / 2]
        sentences.append(
            f"With {units} units the test error is least at ε = {best}, {errors[best]:.2f} % "
            f"against {errors['0']:.2f} % without ({seeds_in_words(along['0'])}); it is lower than "
            f"without at ε = {', '.join(helps)}. The error under PGD of ε = 0.1 is least at "
            f"ε = {hardest}: {fooled[hardest]:.2f} % against {fooled['0']:.2f} %."
        )
        if collapsed:
            sentences[-1] += (
                f" At ε = {', '.join(collapsed)} the nets err less under FGSM than on clean "
                "images, and PGD fools them: catastrophic overfitting."
            )
    return sentences


SENTENCES = {
    "mnist": mnist_sentences,
    "final": final_sentences,
    "halves": halves_sentences,
    "resistance": resistance_sentences,
    "transfer": transfer_sentences,
    "cifar": lambda f: cifar_sentences(f, "cifar"),
    "cifar zca": lambda f: cifar_sentences(f, "cifar zca"),
    "cifar inputs": inputs_sentences,
    "beyond": beyond_sentences,
    "epsilon": epsilon_sentences,
}
