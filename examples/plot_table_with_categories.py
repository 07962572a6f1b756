"""
A table with categories
=======================

Numbers can be a little larger or smaller; there is no half of a category. ``epsilon_of_columns``
gives each column of a ``ColumnTransformer`` an ε of its own: numbers move, categories stay.
"""

# %%
# The table: scikit-learn's wines, with the colour intensity as a word and a region of our
# invention that says nothing about the class.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV
from sk_advbp.tables import epsilon_of_columns

X, y = load_wine(return_X_y=True, as_frame=True)
X["color_intensity"] = np.digitize(X["color_intensity"], [3, 5, 7])
X["color_intensity"] = X["color_intensity"].map({0: "pale", 1: "light", 2: "dark", 3: "deep"})
X["region"] = np.random.default_rng(0).choice(["north", "south", "west"], len(X))
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# Numbers are standardised, words become one column a category, sparse or not.

transform = make_column_transformer(
    (StandardScaler(), make_column_selector(dtype_include="number")),
    (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    verbose_feature_names_out=False,
)
unit = epsilon_of_columns(transform.fit(X_train))
for name, of_column in zip(transform.get_feature_names_out(), unit, strict=True):
    print(f"{name:>30} {'moves' if of_column else 'stays'}")

# %%
# As ``epsilon_unit`` the array says what one of ``epsilon`` is for each column, so that
# ``AdvBPClassifierCV`` can try one number after the other. On a table as small as this one the
# scores hardly differ, plain back-propagation, ε = 0, among them.

search = AdvBPClassifierCV((50,), epsilons=[0, 0.05, 0.1, 0.2], epsilon_unit=unit, random_state=0)
model = make_pipeline(transform, search).fit(X_train, y_train)
print(f"chosen ε = {search.epsilon_:g} standard deviations")
results = search.cv_results_
for candidate, score in zip(results["params"], results["mean_test_score"], strict=True):
    print(f"  {candidate}: log loss in cross-validation {-score:.3f}")
print(f"accuracy on the test part: {100 * model.score(X_test, y_test):.1f} %")

# %%
# What an attack on the numbers alone does to a net of a fixed ε. The categories are as they were.

net = make_pipeline(transform, AdvBPClassifier((50,), epsilon=0.1 * unit, random_state=0))
net.fit(X_train, y_train)
clean = transform.transform(X_test)
moved = net[-1].adversarial_examples(clean, y_test, epsilon=0.3 * unit)
clean = clean.toarray() if hasattr(clean, "toarray") else clean

figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ax.barh(transform.get_feature_names_out(), np.abs(moved - clean).mean(0))
ax.invert_yaxis()
ax.set(xlabel="mean size of the perturbation, in standard deviations")
plt.show()
