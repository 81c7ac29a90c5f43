"""plot.png: loss and accuracy, epoch by epoch, and at the end the confusion matrix."""

from modules.messages import drawn_names, explain_names

import time

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
from sklearn.utils.multiclass import unique_labels

# seconds between two plots of one training: drawing can take longer than an epoch of few images
PAUSE = 5


def save_plot(path, history, sets, predictions=None):
    """Save the plot as a PNG file, unless it was saved a moment ago. Raises OSError.

    predictions: the predicted labels of the test images, (N,), for the confusion matrix.
    """
    results = None
    if predictions is not None:
        results = sets.test.tensors[1], predictions, sets.classes
    elif path.exists() and 0 <= time.time() - path.stat().st_mtime < PAUSE:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_plot(history, f"LeNet on {sets.title}", results).savefig(path)


def draw_plot(history, title, results=None):
    """Return a figure of the training and validation curves.

    history: train_loss and val_loss (means per image), train_acc and val_acc (in [0, 1]), each a
    list with a value per epoch; results: the true and the predicted label of every test image,
    both (N,), and the names of all classes.
    """
    epochs = range(1, len(history["train_loss"]) + 1)
    # of a single class, there is nothing to confuse; many classes need more space
    number = len(unique_labels(*results[:2])) if results else 0
    has_matrix = number > 1
    size = (8, 4.1) if not has_matrix else (13, 4.1) if number < 15 else (17, 6.5)
    # a Figure, unlike pyplot, starts no user interface
    figure = Figure(figsize=size, dpi=125, layout="constrained")
    figure.suptitle(title, fontsize=15)
    charts = figure.subplots(1, 3 if has_matrix else 2)

    # the markers of many epochs would hide the lines
    marked = {"markersize": min(6, 150 / len(epochs))}
    for axes, metric, label in zip(charts, ("loss", "acc"), ("Loss per image", "Accuracy")):
        axes.plot(epochs, history[f"train_{metric}"], marker="o", label="training", **marked)
        axes.plot(epochs, history[f"val_{metric}"], marker="s", label="validation", **marked)
        axes.set_xlabel("Epoch", fontsize=13)
        axes.set_ylabel(label, fontsize=13)
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelsize=11)
        axes.grid(alpha=0.3)
    # below the charts, where it covers no point
    figure.legend(
        *axes.get_legend_handles_labels(), fontsize=12, loc="outside lower center", ncols=2
    )
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    if has_matrix:
        draw_matrix(charts[2], *results)
    return figure


def draw_matrix(axes, labels, predictions, classes):
    """Draw the confusion matrix: a row for each true class, a column for each predicted one."""
    # kana are not in matplotlib's font
    known = set(get_font(findfont("DejaVu Sans")).get_charmap())
    names = drawn_names(classes, lambda name: known.issuperset(map(ord, name)))
    explain_names(classes, names)
    # long names are shortened in the middle, because many begin alike; "$" would start a formula
    names = [f"{name[:5]}...{name[-6:]}" if len(name) > 14 else name for name in names]
    names = [names[label].replace("$", r"\$") for label in unique_labels(labels, predictions)]
    number = len(names)
    # the numbers of many classes would not fit
    options = {"include_values": number <= 12, "text_kw": {"fontsize": 8}, "cmap": "Blues"}
    ConfusionMatrixDisplay.from_predictions(labels, predictions, ax=axes, colorbar=False, **options)
    # nor would the names
    step = -(-number // 40)
    ticks, size = range(0, number, step), max(4.5, min(10, 190 * step / number))
    axes.set_xticks(ticks, names[::step], rotation="vertical", fontsize=size)
    axes.set_yticks(ticks, names[::step], fontsize=size)
    axes.set_title("Confusion matrix of the test images")
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")


def occurring_classes(labels, predictions, classes):
    """Return the names of the classes among the true or the predicted labels."""
    return [classes[label] for label in unique_labels(labels, predictions)]


def describe_confusions(labels, predictions, classes):
    """Return a line that names the three pairs of classes that are confused most often."""
    matrix = confusion_matrix(labels, predictions, labels=range(len(classes)))
    totals = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    pairs = [np.unravel_index(k, matrix.shape) for k in np.argsort(-matrix, axis=None)[:3]]
    texts = [
        f"{matrix[true, other]} of {totals[true]} {classes[true]} predicted as {classes[other]}"
        for true, other in pairs
        if matrix[true, other]
    ]
    return f"confused most often: {', '.join(texts) or 'none'}"
