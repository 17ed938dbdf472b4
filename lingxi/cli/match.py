"""Find the places that two pictures have in common, and draw them.

Prints how many there are and the homography from the first picture to the second, if most of them
lie on one plane. --out draws them, --data writes them to a file.
"""

import pathlib

from absl import app, flags

from lingxi.cli import models, table_files
from lingxi.cli.command import check_writable, new_flags
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags()
flags.DEFINE_string(
    "model", None, "`PATH` of a trained feature matcher or of an export.", flag_values=FLAGS
)
flags.DEFINE_string(
    "out", None, "`PICTURE` to draw, .png, .jpg, .pdf or .svg (extra plots).", flag_values=FLAGS
)
flags.DEFINE_string(
    "data", None, "`FILE` of the matches to write, .csv, .tsv or .jsonl.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "max_size",
    None,
    "Shrink pictures to `N` pixels on the longer side; by default as the model says.",
    lower_bound=16,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "threshold",
    None,
    "Least confidence of a match, from 0 to 1; by default as the model says.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "planar",
    False,
    "The pictures show something flat, or were taken from one place: look twice, which finds more.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "inlier_distance",
    3.0,
    "`PIXELS` of the second picture within which a match agrees with the homography.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
REQUIRED = ("model",)
USAGE = "--model PATH A B [flags]"
EXAMPLES = """
    lingxi match --model runs/matcher a.jpg b.jpg --out matches.png
    lingxi match --model matcher.tflite a.jpg b.jpg --planar --data matches.csv
"""


def run(arguments):
    if len(arguments) != 2:
        raise app.UsageError(f"match takes two pictures, got {arguments or 'none'}")
    for path in filter(None, (FLAGS.out, FLAGS.data)):
        check_writable(path)
    if FLAGS.data:
        table_files.kind(FLAGS.data)
    for path in arguments:
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"no picture at {path}")
    model = models.load(FLAGS.model, FLAGS.debug)
    if model.verb != "match":
        raise ValueError(f"{FLAGS.model} is a {model.kind}, no FeatureMatcher: use lingxi predict")
    for name in ("max_size", "threshold"):
        if FLAGS[name].value is not None:
            if models.is_artifact(FLAGS.model):
                raise ValueError(f"--{name} is fixed in an export; it is for trained directories")
            setattr(model.task, name, FLAGS[name].value)
    with quiet_tensorflow(FLAGS.debug):
        matches = model.task.match(*arguments, planar=FLAGS.planar)
    homography = matches.homography(FLAGS.inlier_distance)
    print(f"{len(matches)} matches")
    print("no homography" if homography is None else f"homography\n{_numbers(homography)}")
    if FLAGS.data:
        if not len(matches):
            raise ValueError(f"these pictures have no match; {FLAGS.data} not written")
        table_files.write(FLAGS.data, _rows(matches))
        print(f"Wrote the matches to {FLAGS.data}")
    if FLAGS.out:
        matches.save(FLAGS.out)
        print(f"Drew the matches in {FLAGS.out}")


def _numbers(homography):
    return "\n".join("  ".join(f"{number:14.6g}" for number in row) for row in homography)


def _rows(matches):
    """A dict for each match."""
    columns = (*matches.points_a.T, *matches.points_b.T, matches.scores)
    names = ("x_a", "y_a", "x_b", "y_b", "score")
    return [
        dict(zip(names, (round(float(value), 4) for value in row), strict=True))
        for row in zip(*columns, strict=True)
    ]
