"""The tutorial's way of training, to compare with: image by image, numbers pulled every batch."""

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

# the tutorial imports these, too: they take memory, and time before the first step
IMPORTED = plt, classification_report


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
        self.test_data = KMNIST(root, train=False, transform=ToTensor())
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
        self.model.train()
        return [self.step(images, labels) for images, labels in self.train_loader]

    def evaluate(self):
        self.model.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in self.val_loader:
                images, labels = images.to(self.device), labels.to(self.device)
                log_probs = self.model(images)
                self.loss_fn(log_probs, labels).item()
                correct += (log_probs.argmax(1) == labels).sum().item()
        return correct / len(self.val_loader.dataset)
