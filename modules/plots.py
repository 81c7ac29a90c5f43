"""plot.png: loss and accuracy, epoch by epoch, and at the end the confusion matrix."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.utils.multiclass import unique_labels


def draw_plot(history, title, results=None):
    """Return a figure of the training and validation curves.

    history: train_loss and val_loss (means per image), train_acc and val_acc (in [0, 1]), each a
    list with a value per epoch; results: the right and the predicted label of every test image,
    both (N,), and the names of all classes.
    """
    epochs = range(1, len(history["train_loss"]) + 1)
    occurring = unique_labels(*results[:2]) if results else []
    # of a single class, there is nothing to confuse
    has_matrix = len(occurring) > 1
    # a Figure, unlike pyplot, starts no user interface
    figure = Figure(figsize=(13 if has_matrix else 8, 4.1), dpi=125, layout="constrained")
    figure.suptitle(title, fontsize=15)
    charts = figure.subplots(1, 3 if has_matrix else 2)

    for axes, metric, label in zip(charts, ("loss", "acc"), ("Loss per image", "Accuracy")):
        axes.plot(epochs, history[f"train_{metric}"], marker="o", label="training")
        axes.plot(epochs, history[f"val_{metric}"], marker="s", label="validation")
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
        labels, predictions, classes = results
        # matplotlib's font has no kana, and "$" would start a formula
        names = [classes[k][:12] if classes[k].isascii() else f"class {k}" for k in occurring]
        names = [name.replace("$", r"\$") for name in names]
        # the numbers of many classes would not fit
        options = {"include_values": len(names) <= 12, "text_kw": {"fontsize": 8}, "cmap": "Blues"}
        options |= {"display_labels": names, "xticks_rotation": "vertical", "colorbar": False}
        ConfusionMatrixDisplay.from_predictions(labels, predictions, ax=charts[2], **options)
        charts[2].set(
            title="Confusion matrix of the test images", xlabel="Predicted class", ylabel="Class"
        )
    return figure


def save_plot(path, history, title, results=None):
    """Save what draw_plot() returns as the PNG file `path`. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_plot(history, title, results).savefig(path)
