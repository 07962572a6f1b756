"""Values and arrays in one file that runs nothing when it is read.

What lives here: the file, with its guards (`safetensors`), and plain values as JSON beside arrays
(`plain`). What may not: estimators, torch, or anything that a file could have imported or called.
"""

from sk_advbp.keeping.plain import decoded, encoded
from sk_advbp.keeping.safetensors import read_file, write_file

__all__ = ["decoded", "encoded", "read_file", "write_file"]
