"""Trains a small neural network on scikit-learn's handwritten digits.

It knows nothing of Haul: `python train.py` does the same. Every epoch prints a line as soon as it is over; the model
is left in ./outputs.
"""

import argparse
import os
import pathlib

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15, help="passes over the training data (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="neurons in the hidden layer (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=0.003, help="of Adam (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        # So that `haul run --array 1-4 train.py` trains four models that differ.
        default=int(os.environ.get("HAUL_TASK_INDEX", "0")),
        help="of the split and of the weights (default: the task's index in an array, else 0)",
    )
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error("--epochs: at least 1")
    return args


def main():
    args = arguments()
    images, digits = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits, test_size=0.25, stratify=digits, random_state=args.seed
    )
    scaler = MinMaxScaler().fit(train_x)
    train_x = scaler.transform(train_x)
    print(f"{len(train_x)} images to learn from, {len(test_x)} to be tested on", flush=True)

    network = MLPClassifier(
        hidden_layer_sizes=(args.hidden,), learning_rate_init=args.learning_rate, batch_size=32, random_state=args.seed
    )
    accuracy = 0.0
    for epoch in range(1, args.epochs + 1):
        network.partial_fit(train_x, train_y, classes=list(range(10)))
        accuracy = network.score(scaler.transform(test_x), test_y)
        print(f"epoch {epoch:2}/{args.epochs}  loss {network.loss_:.4f}  accuracy {accuracy:.4f}", flush=True)

    outputs = pathlib.Path(os.environ.get("HAUL_OUTPUT_DIR", "outputs"))
    outputs.mkdir(parents=True, exist_ok=True)
    joblib.dump(make_pipeline(scaler, network), outputs / "model.joblib")
    print(f"accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
