import math
import types

import pytest

from lingxi.training import tune

pytest.importorskip("keras_tuner")


class Task:
    """Stands for a task that learns best, or worst, at a learning rate of 1e-4."""

    rates = []  # of all trainings

    def fit(self, *data, validation_data, learning_rate, seed):
        self.rate = learning_rate
        self.rates.append(learning_rate)
        distance = abs(math.log10(learning_rate) + 4)
        return types.SimpleNamespace(history={"val_accuracy": [1.0, 1 - distance], "val_loss": [2]})

    def save_preset(self, path):
        path.mkdir()
        (path / "rate").write_text(repr(self.rate))


def space(choose):
    return {"learning_rate": choose.Float("learning_rate", 1e-6, 1e-2, sampling="log")}


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A function: a search, or the rest of one."""
    monkeypatch.setattr(Task, "rates", [])

    def run(make=lambda choose: Task(), **options):
        options = {"trials": 4, "seed": 1, "space": space, **options}
        return tune(make, ["x"], ["y"], validation_data=None, directory=tmp_path / "s", **options)

    return run


def test_trials_come_closer_and_the_best_task_is_saved(search, tmp_path):
    told = []
    trials = search(trials=15, told=lambda number, trial: told.append((number, trial)))
    assert trials == sorted(trials, key=lambda trial: trial.score, reverse=True)
    assert [number for number, _ in told] == list(range(1, 16))
    assert trials[0].score > 0.9
    saved = (tmp_path / "s" / "best" / "rate").read_text()
    assert float(saved) == trials[0].settings["learning_rate"]
    first, last = (sum(t.score for _, t in part) for part in (told[:5], told[-5:]))
    assert last > first


def test_what_is_a_loss_is_to_be_low(search, monkeypatch):
    def fit(self, *data, validation_data, learning_rate, seed):
        self.rate = learning_rate
        return types.SimpleNamespace(history={"val_loss": [learning_rate]})

    monkeypatch.setattr(Task, "fit", fit)
    trials = search(objective="val_loss")
    assert trials == sorted(trials, key=lambda trial: trial.score)


def test_a_search_that_was_broken_off_goes_on_with_the_trial_that_was_running(search):
    def interrupted(choose):
        chosen.append(space(choose)["learning_rate"])
        if len(chosen) == 3:
            raise KeyboardInterrupt
        return Task()

    chosen = []
    with pytest.raises(KeyboardInterrupt):
        search(interrupted)
    assert len(Task.rates) == 2
    trials = search()
    assert len(trials) == len(Task.rates) == 4
    assert Task.rates[:3] == chosen


def test_a_finished_search_goes_on_with_more_trials(search):
    before = search()
    assert search() == before
    assert len(Task.rates) == 4
    assert len(search(trials=6)) == len(Task.rates) == 6


def test_an_error_of_a_training_ends_the_search(search):
    def fail(choose):
        raise ValueError("no label 'x'")

    with pytest.raises(ValueError, match="no label 'x'"):
        search(fail)


def test_an_unknown_objective_names_those_that_there_are(search):
    with pytest.raises(ValueError, match="val_f1.*val_accuracy, val_loss"):
        search(objective="val_f1")


def test_a_score_that_is_no_number_is_no_result(search, monkeypatch):
    def fit(self, *data, validation_data, learning_rate, seed):
        score = math.nan if len(self.rates) == 1 else 0.5
        self.rates.append(learning_rate)
        self.rate = learning_rate
        return types.SimpleNamespace(history={"val_accuracy": [score]})

    monkeypatch.setattr(Task, "fit", fit)
    assert [trial.score for trial in search()] == [0.5, 0.5, 0.5]
