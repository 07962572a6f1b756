"""What the README shows has to run; its two shell commands are run by .ci/run."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_python_example(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    names = {}
    exec(example, names)
    assert str(names["search"].best_params_) in capsys.readouterr().out
    assert names["search"].score(names["X_test"], names["y_test"]) > 0.9
