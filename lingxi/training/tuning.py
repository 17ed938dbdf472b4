"""The settings with which a task learns best, found by KerasTuner's Bayesian optimization."""

import contextlib
import dataclasses
import gc
import math
import pathlib
import warnings

import keras

from lingxi.files import atomic_path

BEST = "best"  # in the directory of a search
FEWEST_RANDOM = 3  # trials, before what they scored says where to look
LOWER_IS_BETTER = ("loss", "error", "perplexity")  # in the name of a metric


def default_space(choose):
    """Arguments of a task's `fit`, chosen from what fine-tuning usually takes.

    Args:
        choose: a `keras_tuner.HyperParameters`.
    """
    return {
        "learning_rate": choose.Float("learning_rate", 1e-5, 3e-4, sampling="log"),
        "batch_size": choose.Choice("batch_size", [16, 32, 64]),
        "epochs": choose.Int("epochs", 2, 5),
        "schedule": choose.Choice("schedule", ["linear", "cosine"]),
        "warmup": choose.Float("warmup", 0.0, 0.2, step=0.05),
        "layer_decay": choose.Float("layer_decay", 0.8, 1.0, step=0.05),
    }


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        settings: what was chosen for it, by name.
        score: the objective after its last epoch.
    """

    settings: dict
    score: float


def tune(
    make,
    *data,
    validation_data,
    directory,
    trials=20,
    objective="val_accuracy",
    space=default_space,
    seed=None,
    told=None,
    **kwargs,
):
    """Train a task many times, each time with settings that look better after those before.

    A search that was broken off goes on when it is called again, with the trial that was running;
    so does one that has ended, with more `trials`. The task of the best trial is saved in
    `directory/best` as soon as it is.

        best, *others = tune(
            lambda choose: TextClassifier.from_preset(preset, labels=labels),
            texts, labels, validation_data=(dev_texts, dev_labels), directory="runs/search",
        )

    Args:
        make: a function of a `keras_tuner.HyperParameters`, which it may ignore, to a new task.
        data, validation_data: as of the task's `fit`.
        directory: of the search.
        trials: how many in all.
        objective: a name in the history of `fit`. What has "loss", "error" or "perplexity" in its
            name is to be low, anything else high.
        space: a function of a `keras_tuner.HyperParameters` to arguments of `fit`.
        seed: of the search and of each training.
        told: called after each trial with its number and `Trial`.
        kwargs: of `fit`.

    Returns:
        All `Trial`s, the best first.

    Raises:
        ImportError: the extra `tune` is not installed.
        ValueError: the history has no such objective.
    """
    search_class = _search_class()
    path = pathlib.Path(directory).expanduser().absolute()
    direction = "min" if any(word in objective for word in LOWER_IS_BETTER) else "max"

    def run(choose, scores):
        """The score of one trial, whose task is saved if it is better than all `scores`."""
        gc.collect()  # the graphs of the trial before hold each other
        if seed is not None:
            keras.utils.set_random_seed(seed)
        task, settings = make(choose), space(choose)
        options = {**kwargs, "validation_data": validation_data, "seed": seed, **settings}
        history = task.fit(*data, **options).history
        if objective not in history:
            raise ValueError(f"there is no objective {objective!r} among {', '.join(history)}")
        score = history[objective][-1]
        better = min if direction == "min" else max
        if math.isfinite(score) and better([score, *scores]) == score:
            with atomic_path(path / BEST) as temporary:
                task.save_preset(temporary)
        return score

    search = search_class(run, space, told, path, objective, direction, trials, seed)
    search.search_all()
    return search.finished()


def _search_class():
    """A function, since KerasTuner is imported where it is needed."""
    try:
        import keras_tuner
        from sklearn.exceptions import ConvergenceWarning  # KerasTuner searches by scikit-learn
    except ImportError as error:
        raise ImportError(f"a search needs {error.name}: pip install 'lingxi[tune]'") from error

    class Search(keras_tuner.BayesianOptimization):
        def __init__(self, run, space, told, path, objective, direction, trials, seed):
            self.run, self.told = run, told
            choose = keras_tuner.HyperParameters()
            space(choose)  # so that the first trial is drawn, too
            with contextlib.redirect_stdout(None):  # it would tell of a search that goes on
                super().__init__(
                    objective=keras_tuner.Objective(objective, direction),
                    max_trials=trials,
                    num_initial_points=max(FEWEST_RANDOM, trials // 3),
                    hyperparameters=choose,
                    seed=seed,
                    directory=path.parent,
                    project_name=path.name,
                )
            self.oracle.verbose = 0

        def search_all(self):
            try:
                with warnings.catch_warnings():  # of settings that hardly matter
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    self.search()
            except keras_tuner.errors.FatalError as error:
                raise error.__cause__ from None

        def run_trial(self, trial):
            try:
                score = self.run(trial.hyperparameters, [each.score for each in self.finished()])
            except Exception as error:  # of others KerasTuner would try the next trial
                raise keras_tuner.errors.FatalError(str(error)) from error
            if not math.isfinite(score):
                raise keras_tuner.errors.FailedTrialError(f"the objective is {score}")
            self.oracle.update_space(trial.hyperparameters)
            if self.told:
                number = len(self.oracle.start_order)
                self.told(number, Trial(dict(trial.hyperparameters.values), score))
            return {self.oracle.objective.name: score}

        def finished(self):
            """All `Trial`s that have a score, the best first."""
            found = [
                Trial(dict(trial.hyperparameters.values), trial.score)
                for trial in self.oracle.trials.values()
                if trial.score is not None
            ]
            highest_first = self.oracle.objective.direction == "max"
            return sorted(found, key=lambda trial: trial.score, reverse=highest_first)

    return Search
