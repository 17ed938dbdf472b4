"""Look for the settings with which a task learns best, by training it many times.

Each trial is a training with another learning rate, batch size, number of epochs, schedule, warm-up
and layer-wise decay, chosen by Bayesian optimization (KerasTuner, the extra `tune`) from what those
before it scored on the validation data. The same command goes on with a search that was broken off,
and with a finished one if --trials is more.

The task of the best trial is in the directory `best` of the output, where other commands take it as
--model.
"""

import pathlib
import sys

from absl import app, flags

from lingxi.cli import training_data
from lingxi.cli.command import check_output, new_flags, note, table
from lingxi.cli.quiet import quiet_tensorflow

FLAGS = new_flags(training_data.FLAGS)
flags.DEFINE_string("output", None, "`DIR` of the search.", flag_values=FLAGS)
flags.DEFINE_integer(
    "trials", 20, "Trainings, `N`, with those that are there.", lower_bound=1, flag_values=FLAGS
)
REQUIRED = ("data", "preset", "output")
USAGE = "--data FILE --validation FILE --preset PRESET --output DIR [flags]"
EXAMPLES = """
    lingxi tune --data train.csv --validation dev.csv --preset minilm_l6_en_uncased \\
        --output runs/search --trials 30
"""
MOST = 5  # trials to print
STATE = "oracle.json"  # of KerasTuner, in a directory of a search


def run(arguments):
    if arguments:
        raise app.UsageError(f"tune takes flags only, got {arguments}; see lingxi tune --help")
    if not FLAGS.validation and FLAGS.split is None:
        raise app.UsageError("tune compares trainings: give it --validation or --split")
    output = pathlib.Path(FLAGS.output).expanduser().absolute()
    if not (output / STATE).is_file():
        check_output(output, False, STATE, "search")
    training_data.check()
    settings, data, validation = training_data.examples()
    with quiet_tensorflow(FLAGS.debug):
        from lingxi import training
        from lingxi.training.tuning import BEST

    objective = f"val_{training_data.metric()}"
    best, *others = training.tune(
        lambda choose: training_data.new_task(**settings),
        *data,
        validation_data=validation,
        directory=output,
        trials=FLAGS.trials,
        objective=objective,
        seed=FLAGS.seed,
        told=lambda number, trial: note(
            f"trial {number} of {FLAGS.trials}: {objective} {trial.score:.4f} with "
            f"{', '.join(f'{name} {shown}' for name, shown in _shown(trial).items())}"
        ),
        verbose=1 if sys.stdout.isatty() else 0,
        **({"class_weight": FLAGS.class_weight} if FLAGS.class_weight else {}),
        **({"cache": output / "tokens"} if training_data.keeps_tokens() else {}),
    )
    trials = [best, *others]
    rows = [[objective, *best.settings]]
    rows += [[f"{trial.score:.4f}", *_shown(trial).values()] for trial in trials[:MOST]]
    print(f"\nThe best of {len(trials)} trials:\n{table(rows)}\n\nNext:")
    print(f'  lingxi predict --model {FLAGS.output}/{BEST} "a text"')


def _shown(trial):
    """The settings of a trial as strings."""
    return {
        name: f"{value:.3g}" if isinstance(value, float) else str(value)
        for name, value in trial.settings.items()
    }
