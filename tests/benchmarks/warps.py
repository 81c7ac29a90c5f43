"""Draw what --augment does to printed characters: `python tests/benchmarks/warps.py FILE.png`."""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modules.augment import warp
from modules.datasets import HIRAGANA
from modules.printed import draw_images

images, labels = draw_images("".join(HIRAGANA.values()), 200, seed=4)
# an image of each class that is easy to read, then seven warps of it
chosen = torch.tensor(images[[int(np.flatnonzero(labels == k)[1]) for k in range(10)]])[:, None]
torch.manual_seed(0)
rows = [chosen / 255, *(warp(chosen / 255) for _ in range(7))]
grid = np.vstack([np.hstack([np.pad(i[0], 1, constant_values=0.4) for i in row]) for row in rows])
large = cv2.resize(255 * grid, None, fx=2.4, fy=2.4, interpolation=cv2.INTER_NEAREST)
cv2.imwrite(sys.argv[1], large.astype(np.uint8))
