"""Write a page about a training: curves, errors, calibration, a model card.

RUN is a directory that `lingxi train --output` has written. The page is one HTML file that loads
nothing else. What needs examples is measured on the --validation file of the training: of a
classifier and of a token classifier scores by label, what is taken for what, calibration, and the
worst examples.
"""

from absl import app, flags

from lingxi.cli.command import check_writable, new_flags

FLAGS = new_flags()
flags.DEFINE_string(
    "output", None, "`FILE` to write; by default report.html in RUN.", flag_values=FLAGS
)
REQUIRED = ()
USAGE = "RUN [flags]"
EXAMPLES = """
    lingxi report runs/comments
    lingxi report runs/comments --output comments.html
"""


def run(arguments):
    if len(arguments) != 1:
        raise app.UsageError(f"report takes the directory of one run, got {arguments or 'none'}")
    if FLAGS.output:
        check_writable(FLAGS.output)
    from lingxi import report

    print(f"Wrote {report.write(arguments[0], FLAGS.output)}")
