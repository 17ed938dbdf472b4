"""LoFTR trained from random weights on a few photographs, beside ORB and SIFT of OpenCV.

    python benchmarks/homographies.py [--minutes=40] [--preset=loftr_tiny] [--output=DIR]

Five photographs and drawn textures are for training, by random homographies; three photographs are
held out and seen under other homographies, and seven pairs of real pictures have homographies
checked by hand. A pair's error is the mean distance of where the corners of the first
picture are taken by the homography found and by the true one; the table has the area under the
curve of these errors up to 3, 5 and 10 px. lingxi matches once, and twice (`match(planar=True)`).
OpenCV's matches are mutual nearest neighbours (SIFT's by the ratio test) and its homographies by
`cv2.findHomography(…, cv2.RANSAC, 3)`.

With --output the weights of the least loss are saved on the way. `--weights=DIR --minutes=0` only
evaluates them.
"""

import time

from absl import app, flags
from common import DATA, describe_machine

MINUTES = flags.DEFINE_float("minutes", 40.0, "of training, with its start and tracing")
PRESET = flags.DEFINE_string("preset", "loftr_tiny", "size of the model")
OUTPUT = flags.DEFINE_string("output", None, "directory for the best weights")
MAX_SIZE = flags.DEFINE_integer("max_size", 640, "pixels to which lingxi shrinks the longer side")
THRESHOLD = flags.DEFINE_float("threshold", 0.05, "least confidence of a match")
WEIGHTS = flags.DEFINE_string("weights", None, "directory of weights to evaluate, or to start with")
SEED = flags.DEFINE_integer("seed", 0, "of all chance")

PHOTOGRAPHS = DATA / "images"
TRAINING = ("astronaut.png", "brick.png", "chelsea.png", "coins.png", "gravel.png")
HELD_OUT = ("camera.png", "coffee.png", "rocket.jpg")
REAL = ("adam", "Boston", "BruggeSquare", "Brussels", "CapitalRegion", "LePoint1", "WhiteBoard")

# Small pictures first: most of what is to be learned is there, at a quarter of the price.
STAGES = (((120, 160), 8, 0.75), ((240, 320), 2, 0.25))  # size, pairs a step, share of the time
TEXTURES, TEXTURE_SIZE = 200, 320
PEAK, WARMUP, CLIP = 2e-3, 200, 1.0
REPORT = 100  # steps
VIEWS, VIEW_SIZE = 20, (240, 320)  # of each held-out photograph
LONGER_SIDE = 640  # pixels, of the real pictures, for all methods alike
THRESHOLDS = (3, 5, 10)


def main(_):
    import keras

    from lingxi.tasks import FeatureMatcher

    print(describe_machine())
    keras.utils.set_random_seed(SEED.value)
    matcher = FeatureMatcher.from_preset(
        WEIGHTS.value or PRESET.value, max_size=MAX_SIZE.value, threshold=THRESHOLD.value
    )
    print(f"{matcher.backbone.config.num_parameters:,} parameters")
    if MINUTES.value > 0:
        train(matcher)
    report(matcher)


def train(matcher):
    """For so many minutes, in stages, by a rate that falls with the time."""
    import keras

    from lingxi.images import read, textures
    from lingxi.training import AdamW

    photographs = [read(PHOTOGRAPHS / name) for name in TRAINING]
    drawn = textures(TEXTURES, TEXTURE_SIZE, TEXTURE_SIZE, SEED.value)
    pictures = photographs * (TEXTURES // len(photographs)) + drawn
    start = time.monotonic()

    def minutes():
        return (time.monotonic() - start) / 60

    class Clock(keras.callbacks.Callback):
        """Sets the rate by the share of the time that is gone, reports, and ends the stage."""

        def __init__(self, end):
            super().__init__()
            self.end, self.least, self.steps = end, float("inf"), 0

        def on_train_batch_begin(self, batch, logs=None):
            left = max(1.0 - minutes() / MINUTES.value, 0.01)
            warm = min((1 + int(self.model.optimizer.iterations)) / WARMUP, 1.0)
            self.model.optimizer.learning_rate = PEAK * warm * left

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            self.model.stop_training = minutes() > self.end

        def on_epoch_end(self, epoch, logs=None):
            shown = ", ".join(f"{name} {float(value):.3f}" for name, value in logs.items())
            print(f"{minutes():5.1f} min, {self.steps} steps: {shown}", flush=True)
            if OUTPUT.value and logs["loss"] < self.least:
                self.least = logs["loss"]
                self.model.save_preset(OUTPUT.value)

    optimizer = AdamW(PEAK, weight_decay=0.01, global_clipnorm=CLIP)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    matcher.compile(optimizer)
    end = 0.0
    for size, batch_size, share in STAGES:
        end += share * MINUTES.value
        print(f"pictures of {size[1]} × {size[0]}, {batch_size} pairs a step")
        matcher.fit(
            pictures,
            epochs=10**6,
            steps_per_epoch=REPORT,
            batch_size=batch_size,
            size=size,
            seed=SEED.value,
            callbacks=[Clock(end)],
            verbose=0,
        )


def report(matcher):
    """Print the areas under the curves of all methods, and the errors of the real pairs."""
    sides = {
        "lingxi": lingxi_side(matcher, planar=False),
        "lingxi, twice": lingxi_side(matcher, planar=True),
        "ORB": opencv_side("orb"),
        "SIFT": opencv_side("sift"),
    }
    views, real = list(held_out_pairs()), list(real_pairs())
    print(f"\n{'':40}" + "".join(f"AUC@{t} px".rjust(12) for t in THRESHOLDS))
    for title, pairs in ((f"held-out photographs, {len(views)}", views), ("real pairs, 7", real)):
        for side, find in sides.items():
            errors = errors_of(find, pairs)
            print(f"{title:26}{side:14}{areas(errors)}", flush=True)
            if pairs is real:
                names = ", ".join(f"{n} {e:.1f}" for n, e in zip(REAL, errors, strict=True))
                print(f"{'':8}corner errors in px: {names}")


def areas(errors):
    from lingxi.training.matching import area_under_curve

    return "".join(f"{100 * area_under_curve(errors, t):12.1f}" for t in THRESHOLDS)


def errors_of(find, pairs):
    """The corner error of each pair, infinite where no homography is found."""
    import numpy as np

    from lingxi.images import corner_errors

    errors = []
    for first, second, true in pairs:
        found = find(first, second)
        height, width = first.shape[:2]
        errors.append(np.inf if found is None else corner_errors(true, found, width, height))
    return errors


def held_out_pairs():
    """Two views of a held-out photograph and their homography, by numbers not used in training."""
    from lingxi.images import read, views

    for index, name in enumerate(HELD_OUT):
        photograph = read(PHOTOGRAPHS / name)
        for number in range(VIEWS):
            inputs, homography = views(photograph, [10**6 + index, number], *VIEW_SIZE)
            yield inputs["image_a"].numpy(), inputs["image_b"].numpy(), homography.numpy()


def real_pairs():
    """B, A and the homography from B to A, of pictures whose longer side is `LONGER_SIDE`."""
    import numpy as np

    from lingxi.images import read
    from lingxi.images.framing import scaling, shrunk

    for name in REAL:
        pictures, scalings = [], []
        for letter in "BA":
            (path,) = (PHOTOGRAPHS / "homographies").glob(f"{name}{letter}.[jp]*")
            picture, scale = shrunk(read(path), LONGER_SIDE, LONGER_SIDE)
            pictures.append(picture.numpy())
            scalings.append(scaling(scale).numpy())
        true = np.loadtxt(PHOTOGRAPHS / "homographies" / f"{name}_model.txt")
        yield *pictures, scalings[1] @ true @ np.linalg.inv(scalings[0])


def lingxi_side(matcher, planar):
    return lambda first, second: matcher.match(first, second, planar=planar).homography()


def opencv_side(kind):
    """Key points, mutual nearest neighbours and RANSAC of OpenCV."""
    import cv2
    import numpy as np

    if kind == "orb":
        detector, norm = cv2.ORB_create(2000), cv2.NORM_HAMMING
    else:
        detector, norm = cv2.SIFT_create(2000), cv2.NORM_L2

    def find(first, second):
        images = (np.round(255 * picture[..., 0]).astype("uint8") for picture in (first, second))
        (keys_a, vectors_a), (keys_b, vectors_b) = (
            detector.detectAndCompute(image, None) for image in images
        )
        if vectors_a is None or vectors_b is None or min(len(keys_a), len(keys_b)) < 4:
            return None
        if kind == "orb":
            matches = cv2.BFMatcher(norm, crossCheck=True).match(vectors_a, vectors_b)
        else:
            two = cv2.BFMatcher(norm).knnMatch(vectors_a, vectors_b, k=2)
            matches = [a for a, b in two if a.distance < 0.8 * b.distance]
        if len(matches) < 4:
            return None
        points_a = np.float32([keys_a[match.queryIdx].pt for match in matches])
        points_b = np.float32([keys_b[match.trainIdx].pt for match in matches])
        return cv2.findHomography(points_a, points_b, cv2.RANSAC, 3.0)[0]

    return find


if __name__ == "__main__":
    app.run(main)
