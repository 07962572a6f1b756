"""The order of the examples in the gallery: as one would read them, new ones at the end."""

FIRST = (
    "first_fit",
    "grid_search",
    "epsilon_path",
    "choose_epsilon",
    "adversarial_digits",
    "robustness_curves",
    "catastrophic_overfitting",
    "table_with_categories",
    "convolutional",
    "early_stopping",
    "several_nets",
    "several_labels",
    "regression",
    "dask_search",
)


class TeachingOrder:
    """The key by which sphinx-gallery sorts the files of a folder."""

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        """Return the key of one file."""
        name = filename.removeprefix("plot_").removesuffix(".py")
        return (FIRST.index(name) if name in FIRST else len(FIRST), name)

    def __repr__(self):
        return "TeachingOrder"
