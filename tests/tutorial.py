"""The tutorial's way of training, to compare with: image by image, numbers pulled every batch."""

import time

import matplotlib.pyplot as plt
import torch
from sklearn.metrics import classification_report
from torch.nn import NLLLoss
from torch.optim import Adam
from torch.utils.data import DataLoader
from torch.utils.data import random_split
from torchvision.datasets import KMNIST
from torchvision.transforms import ToTensor

from modules.lenet import LeNet


class Tutorial:
    """A training under way, with the tutorial's settings."""

    def __init__(self, root, seed=42, device="cpu"):
        generator = torch.manual_seed(seed)
        images = KMNIST(root, train=True, transform=ToTensor())
        num_val = len(images) // 4
        train_data, val_data = random_split(images, [len(images) - num_val, num_val], generator)
        self.train_loader = DataLoader(train_data, shuffle=True, batch_size=64)
        self.val_loader = DataLoader(val_data, batch_size=64)
        self.device = device
        test_data = KMNIST(root, train=False, transform=ToTensor())
        self.test_loader = DataLoader(test_data, batch_size=64)
        self.model = LeNet(numChannels=1, classes=10).to(device)
        self.optimizer = Adam(self.model.parameters(), lr=1e-3)
        self.loss_fn = NLLLoss()

    def step(self, images, labels):
        """Train on a batch; return the loss and the number of images that were right."""
        images, labels = images.to(self.device), labels.to(self.device)
        log_probs = self.model(images)
        loss = self.loss_fn(log_probs, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), (log_probs.argmax(1) == labels).sum().item()

    def train_epoch(self):
        """Return the mean loss of the batches, and the accuracy."""
        self.model.train()
        losses, correct = zip(*(self.step(*batch) for batch in self.train_loader), strict=True)
        return sum(losses) / len(losses), sum(correct) / len(self.train_loader.dataset)

    def evaluate(self, loader):
        """Return the mean loss of the batches, the accuracy, and the predictions."""
        self.model.eval()
        losses, correct, predictions = [], 0, []
        with torch.no_grad():
            for images, labels in loader:
                images, labels = images.to(self.device), labels.to(self.device)
                log_probs = self.model(images)
                losses.append(self.loss_fn(log_probs, labels).item())
                correct += (log_probs.argmax(1) == labels).sum().item()
                predictions.extend(log_probs.argmax(1).cpu().numpy())
        return sum(losses) / len(losses), correct / len(loader.dataset), predictions

    def run(self, epochs, folder):
        """Train, save the model and the plot, and print the seconds and the report."""
        curves, start = [], time.perf_counter()
        for _ in range(epochs):
            curves.append([*self.train_epoch(), *self.evaluate(self.val_loader)[:2]])
        print(f"trained in {time.perf_counter() - start:.1f} s")

        *_, predictions = self.evaluate(self.test_loader)
        data = self.test_loader.dataset
        names = data.classes
        print(classification_report(data.targets, predictions, target_names=names, digits=4))
        plt.figure()
        plt.plot(curves)
        plt.savefig(folder / "tutorial.png")
        torch.save(self.model, folder / "tutorial.pth")
