from torch import flatten
from torch.nn import Conv2d, Linear, LogSoftmax, MaxPool2d, Module, ReLU


class LeNet(Module):
    """LeNet, after LeCun et al. 1998, with ReLU and max-pooling, for images of 28×28 pixels.

    (CONV => RELU => POOL) * 2 => FC => RELU => FC => SOFTMAX

    numChannels: channels of an image, 1 for grayscale or 3 for RGB; classes: number of classes.
    """

    def __init__(self, numChannels, classes):
        # let Module prepare to keep track of layers and parameters
        super().__init__()

        # first CONV => RELU => POOL: 28×28 becomes 20 maps of 24×24 (28 - 5 + 1), then 12×12
        self.conv1 = Conv2d(in_channels=numChannels, out_channels=20, kernel_size=(5, 5))
        self.relu1 = ReLU()
        self.maxpool1 = MaxPool2d(kernel_size=(2, 2), stride=(2, 2))

        # second CONV => RELU => POOL: 50 maps of 8×8, then 4×4
        self.conv2 = Conv2d(in_channels=20, out_channels=50, kernel_size=(5, 5))
        self.relu2 = ReLU()
        self.maxpool2 = MaxPool2d(kernel_size=(2, 2), stride=(2, 2))

        # the only FC => RELU: 50 maps of 4×4 are 800 inputs per image
        self.fc1 = Linear(in_features=800, out_features=500)
        self.relu3 = ReLU()

        # the softmax classifier: a score for each class, then its log-probability
        self.fc2 = Linear(in_features=500, out_features=classes)
        self.logSoftmax = LogSoftmax(dim=1)

    def forward(self, x):
        """Return the log-probabilities, shape (N, classes); x: shape (N, numChannels, 28, 28)."""
        # first CONV => RELU => POOL: find simple strokes, keep the largest value of each 2×2 block
        x = self.conv1(x)
        x = self.relu1(x)
        x = self.maxpool1(x)

        # second CONV => RELU => POOL: combine strokes into larger patterns
        x = self.conv2(x)
        x = self.relu2(x)
        x = self.maxpool2(x)

        # flatten all but the batch dimension for the fully connected layer
        x = flatten(x, 1)
        x = self.fc1(x)
        x = self.relu3(x)

        # compute a score for each class, then log-probabilities
        x = self.fc2(x)
        output = self.logSoftmax(x)
        return output
