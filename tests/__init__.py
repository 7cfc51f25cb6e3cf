"""The tests. A width that readline, which pytest imports, left in the environment must not decide what is printed: the
console keeps what it finds there when it is imported."""

import os

os.environ.pop("COLUMNS", None)
