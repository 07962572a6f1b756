"""
A search on a Dask cluster
==========================

A search of scikit-learn whose fits run on the workers of a cluster: here two processes of this
machine, elsewhere as many machines as there are, and nothing else of the code changes.
"""

# %%
# scikit-learn hands its fits to joblib, joblib to the cluster. The estimator, the data and the
# random state travel along, so that the scores are those of a search in one process.
#
# It pays where the fits are many and long, and more than one machine can share them. On one machine
# ``n_jobs`` does the same without a cluster, and sooner.

import matplotlib.pyplot as plt
import numpy as np
from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sk_advbp import AdvBPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
search = RandomizedSearchCV(
    make_pipeline(MinMaxScaler(), AdvBPClassifier((50,), max_epochs=20, random_state=0)),
    {
        "advbpclassifier__epsilon": loguniform(0.005, 0.2),
        "advbpclassifier__optimizer__weight_decay": loguniform(1e-6, 1e-2),
    },
    n_iter=12,
    cv=3,
    random_state=0,
)

# %%
# A worker is a process that imports this file, which is why the rest of it must not run there. One
# thread each is best for nets of this size; for a large X, ``scatter=[X_train]`` in
# `joblib.parallel_config` sends it once instead of with every fit. For a cluster that runs already,
# ``Client("tcp://its-address:8786")`` takes the place of the local one.

if __name__ == "__main__":
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR"
        ) as cluster,
        Client(cluster),
        parallel_config("dask"),
    ):
        search.fit(X_train, y_train)
    found = search.best_params_
    print(f"ε = {found['advbpclassifier__epsilon']:.3f}", end=", ")
    print(f"weight decay = {found['advbpclassifier__optimizer__weight_decay']:.1e}")
    print(f"accuracy on the test part: {100 * search.score(X_test, y_test):.1f} %")

    results = search.cv_results_
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    points = ax.scatter(
        results["param_advbpclassifier__epsilon"].astype(float),
        100 * results["mean_test_score"],
        c=np.log10(results["param_advbpclassifier__optimizer__weight_decay"].astype(float)),
    )
    ax.set_xscale("log")
    ax.set(xlabel="ε, of a pixel in [0, 1]", ylabel="accuracy in cross-validation (%)")
    figure.colorbar(points, label="weight decay, power of 10")
    plt.show()
