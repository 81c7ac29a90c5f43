"""Sets environment variables that packages, from torch to OpenCV, read when they are loaded."""

import os
import sys

# In a training step, PyTorch's threads wait for each other many times, and keep their CPU cores
# busy meanwhile. If another program needs a core, training takes many times as long. So let
# waiting threads sleep after about 0.1 ms (2000 rounds, on Linux) or 1 ms (on Windows and Macs),
# unless the user has chosen how they wait.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ.setdefault("KMP_BLOCKTIME", "1")

# A notebook passes the name of its matplotlib backend on to `!python train.py`, where that may not
# be installed. Saving plot.png needs none.
if "ipykernel" not in sys.modules:
    os.environ.pop("MPLBACKEND", None)

# Qt, which shows OpenCV's windows on Linux, prints warnings about fonts and Wayland.
os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false;*.info=false")
