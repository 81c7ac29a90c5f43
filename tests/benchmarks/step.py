"""Show where a step of train.py goes on the CPU: `python tests/benchmarks/step.py`.

Beside it stands the time that the network's arithmetic would take at the rate at which this
processor multiplies matrices.
"""

import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch.nn import NLLLoss
from torch.optim import Adam
from torch.profiler import profile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import train
from modules import cli
from modules.lenet import LeNet

BATCH, STEPS = 64, 100
# multiply-adds of an image, forwards; backwards, each layer takes twice as many, but conv1, which
# needs no gradient of the image, takes as many again
CONV1, OTHERS = 20 * 24 * 24 * 25, 50 * 8 * 8 * 20 * 25 + 800 * 500 + 500 * 10


class Batches(list):
    """Batches in memory, which take the place of a DataLoader."""

    dataset = range(BATCH * STEPS)


def main():
    images = torch.rand(BATCH, 1, 28, 28)
    loader = Batches([(images, torch.arange(BATCH) % 10)] * STEPS)
    operations = 2 * BATCH * (2 * CONV1 + 3 * OTHERS)
    for dtype, amp in ((torch.float32, False), (torch.bfloat16, True)):
        model = LeNet(numChannels=1, classes=10).to(memory_format=torch.channels_last)
        optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
        times = []
        for _ in range(6):
            start = time.perf_counter()
            train.train_epoch(model, loader, NLLLoss(), optimizer, amp=amp)
            times.append((time.perf_counter() - start) / STEPS)
        matrix = torch.ones(1024, 1024, dtype=dtype)
        products = []
        for _ in range(50):
            start = time.perf_counter()
            matrix @ matrix
            products.append(time.perf_counter() - start)
        rate = 2 * 1024**3 / median(products)
        print(
            f"{dtype}: {1000 * median(times):.1f} ms a step; {operations / 1e9:.2f} GFLOP, "
            f"{1000 * operations / rate:.1f} ms at {rate / 1e9:.0f} GFLOP/s"
        )
        with profile(record_shapes=True) as profiler:
            train.train_epoch(model, loader, NLLLoss(), optimizer, amp=amp)
        parts = profiler.key_averages(group_by_input_shape=True)
        for part in sorted(parts, key=lambda part: -part.self_cpu_time_total)[:14]:
            shapes = [shape for shape in part.input_shapes if shape][:2]
            print(f"  {part.self_cpu_time_total / STEPS / 1000:.2f} ms {part.key} {shapes}")


if __name__ == "__main__":
    cli.run(main)
