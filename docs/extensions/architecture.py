"""Draw docs/static/architecture.svg: ``python docs/extensions/architecture.py``."""

from pathlib import Path

LAYERS = [
    ("scikit-learn's side", ["classifier.py", "regressor.py", "search.py"]),
    ("the contract: parameters, validation, seeds, dtype",
     ["estimator.py", "training_data.py", "parameters.py"]),
    ("skorch's side: the training", ["net.py", "components.py", "callbacks.py"]),
    ("torch's side: pure functions of tensors, small modules",
     ["perturbation.py", "backprop.py", "attacks.py", "mlp.py", "batches.py", "stacked.py"]),
]  # fmt: skip
BESIDE = ["robustness.py", "display.py", "art.py", "__main__.py"]
WIDTH, HEIGHT, GAP = 640, 66, 26


def box(x, y, width, title, files):
    """Return one layer."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="8" class="box"/>'
        f'<text x="{x + width / 2}" y="{y + 26}" class="title">{title}</text>'
        f'<text x="{x + width / 2}" y="{y + 48}" class="files">{"   ".join(files)}</text>'
    )


def arrow(x, y):
    """Return an arrow downwards, from the bottom of one layer to the next."""
    end = y + GAP
    return f'<path d="M{x} {y}V{end - 3}m-5 -6l5 7l5 -7" class="arrow"/>'


def drawing():
    """Return the drawing as SVG."""
    parts, y = [box(0, 0, WIDTH, "beside: uses the estimators from outside", BESIDE)], 0
    for title, files in LAYERS:
        parts.append(arrow(WIDTH / 2, y + HEIGHT))
        y += HEIGHT + GAP
        parts.append(box(0, y, WIDTH, title, files))
    style = (
        ".box{fill:#e8f1fa;stroke:#3572a5}.arrow{fill:none;stroke:#3572a5;stroke-width:2}"
        "text{font-family:sans-serif;text-anchor:middle;fill:#16324a}"
        ".title{font-size:15px}.files{font-size:14px;font-family:monospace;white-space:pre}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {WIDTH + 2} {y + HEIGHT + 2}">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    path = Path(__file__).resolve().parents[1] / "static" / "architecture.svg"
    path.write_text(drawing(), encoding="utf-8")
