"""Draw docs/static/architecture.svg: ``python docs/extensions/architecture.py``."""

from pathlib import Path

# Folders from the top down, each with what it is about and some of its files.
LAYERS = [
    ("command/", "python -m sk_advbp", ["comparison", "datasets", "options"]),
    ("robustness/", "how hard is it to fool?", ["scores", "pipelines", "displays", "art"]),
    ("export/", "without torch", ["pipelines", "graph"]),
    ("estimators/", "scikit-learn's contract", ["classifier", "regressor", "search", "base"]),
    ("training/", "what differs from skorch", ["net", "components", "batches", "stacked"]),
    ("keeping/", "files that run nothing", ["safetensors", "plain"]),
    ("core/", "the paper, in torch alone", ["perturbation", "backprop", "mlp", "attacks"]),
]
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
    parts, y = [], 0
    for folder, about, files in LAYERS:
        if parts:
            parts.append(arrow(WIDTH / 2, y - GAP))
        parts.append(box(0, y, WIDTH, f"{folder}  {about}", files))
        y += HEIGHT + GAP
    y -= GAP + HEIGHT
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
