"""The tutorial's way of training, to compare with: image by image, numbers pulled every batch.

Run as `python tests/tutorial.py DATA SEED EPOCHS FOLDER`.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.metrics import classification_report
from torch.nn import NLLLoss
from torch.optim import Adam
from torch.utils.data import DataLoader, random_split
from torchvision.datasets import KMNIST
from torchvision.transforms import ToTensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from modules.lenet import LeNet


def run_epoch(model, loader, loss_fn, optimizer=None):
    """Train, or without an optimizer evaluate; return the loss and the accuracy."""
    model.train(optimizer is not None)
    total_loss, num_correct = 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for images, labels in loader:
            log_probs = model(images)
            loss = loss_fn(log_probs, labels)
            if optimizer:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total_loss += loss.item()
            num_correct += (log_probs.argmax(1) == labels).sum().item()
    return total_loss / len(loader), num_correct / len(loader.dataset)


def run(root, seed, epochs, folder):
    """Train, save the model and the plot, and print the seconds and the report."""
    images, test_data = (KMNIST(root, train, transform=ToTensor()) for train in (True, False))
    num_val, generator = len(images) // 4, torch.manual_seed(seed)
    train_data, val_data = random_split(images, [len(images) - num_val, num_val], generator)
    train_loader = DataLoader(train_data, shuffle=True, batch_size=64)
    val_loader, test_loader = (DataLoader(d, batch_size=64) for d in (val_data, test_data))
    model, loss_fn = LeNet(numChannels=1, classes=10), NLLLoss()
    optimizer = Adam(model.parameters(), lr=1e-3)
    curves, start = [], time.perf_counter()
    for _ in range(epochs):
        train_loss, train_acc = run_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, val_acc = run_epoch(model, val_loader, loss_fn)
        curves.append([train_loss, train_acc, val_loss, val_acc])
        print(f"train accuracy {train_acc:.4f}, validation accuracy {val_acc:.4f}")
    print(f"trained in {time.perf_counter() - start:.1f} s")

    model.eval()
    predictions = []
    with torch.no_grad():
        for images, _ in test_loader:
            predictions.extend(model(images).argmax(1).numpy())
    options = {"target_names": test_data.classes, "digits": 4, "zero_division": 0}
    print(classification_report(test_data.targets, predictions, **options))
    plt.plot(curves)
    plt.savefig(Path(folder, "tutorial.png"))
    torch.save(model, Path(folder, "tutorial.pth"))


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
