"""One thread for numpy's matrix products, as in a DSP process; more only wait for each other.

OpenBLAS reads this when numpy is imported, so it stands before every test module.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
