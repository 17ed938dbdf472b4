"""Train a small LoFTR on your own pictures, match two of them, and export it for a phone.

    python examples/feature_matching.py PHOTOGRAPHS a.jpg b.jpg [--minutes=10]

PHOTOGRAPHS is a folder of any pictures: matching is learned from pairs of views of one picture,
made by random homographies, so nothing needs to be labelled. Drawn textures are added, in case the
photographs are few. Writes runs/matching/matches.png, the trained matcher and matcher.tflite.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import pathlib
import time

import keras

import lingxi

RUN = pathlib.Path("runs") / "matching"
SIZE = (120, 160)  # pixels, of the views: small ones teach as much for less
BATCH_SIZE, LEARNING_RATE = 8, 2e-3
TEXTURES = 200


class Minutes(keras.callbacks.Callback):
    """Ends the training when its time is over, and lowers the rate until then."""

    def __init__(self, minutes):
        super().__init__()
        self.seconds, self.start = 60 * minutes, time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        gone = (time.monotonic() - self.start) / self.seconds
        self.model.optimizer.learning_rate = LEARNING_RATE * max(1.0 - gone, 0.01)
        self.model.stop_training = gone >= 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", help="folder of pictures to learn from")
    parser.add_argument("a", help="a picture")
    parser.add_argument("b", help="another picture of the same")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(1)
    photographs = lingxi.images.files_in(arguments.photographs)
    pictures = [*photographs, *lingxi.images.textures(TEXTURES)]
    matcher = lingxi.tasks.FeatureMatcher.from_preset("loftr_tiny", threshold=0.05)
    matcher.compile(lingxi.training.AdamW(LEARNING_RATE, weight_decay=0.01, global_clipnorm=1.0))
    matcher.fit(
        pictures,
        epochs=10**6,
        steps_per_epoch=100,
        batch_size=BATCH_SIZE,
        size=SIZE,
        verbose=2,
        callbacks=[Minutes(arguments.minutes)],
    )
    matcher.save_preset(RUN / "matcher")

    # planar: as of a wall, a page, the ground from the air, or pictures taken from one place
    matches = matcher.match(arguments.a, arguments.b, planar=True)
    print(f"{len(matches)} matches; the homography from a to b:\n{matches.homography()}")
    matches.save(RUN / "matches.png")
    print(f"drawn in {RUN / 'matches.png'}\n")
    pairs = [(arguments.a, arguments.b)]
    print(lingxi.export.tflite(matcher, RUN / "matcher.tflite", size=(240, 320), examples=pairs))


if __name__ == "__main__":
    main()
