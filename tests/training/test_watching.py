"""Progress, the record of a training, and the trackers of others."""

import json
import re
import sys

import keras
import numpy as np
import pytest

from lingxi.training import (
    AdamW,
    Checkpoints,
    ProgressBar,
    RunRecord,
    WarmupLinearDecay,
    mlflow_logger,
    wandb_logger,
    watching,
)
from tests.tasks.test_resume import Dies

TEXTS = ["good", "bad", "the good film", "bad night", "lovely", "awful", "warm day"]
LABELS = ["positive", "negative", "positive", "negative", "positive", "negative", "positive"]


def fit(task, *callbacks, epochs=2, **options):
    """Train on 7 texts by 2: of an epoch's 4 batches one has a single text."""
    task.compile(AdamW(WarmupLinearDecay(0.01, 2, 8)), run_eagerly=True)
    options = {"batch_size": 2, "seed": 1, "verbose": 0, **options}
    return task.fit(TEXTS, LABELS, epochs=epochs, callbacks=list(callbacks), **options).history


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_bar_shows_examples_per_second(tiny_classifier, capsys, verbose):
    history = fit(tiny_classifier(), ProgressBar(), verbose=verbose)
    lines = [line for line in capsys.readouterr().out.splitlines() if "4/4" in line]
    shown = [float(re.search(r"loss: .* - examples/s: ([\d.]+)", line)[1]) for line in lines]
    assert len(shown) >= 2  # one an epoch, or more where the bar moves
    assert all(speed > 1 for speed in shown)
    assert "examples/s" not in history  # which a resumed training must repeat to the last bit


def test_speed_leaves_out_the_first_step(tiny_classifier, monkeypatch):
    class Clock(keras.callbacks.Callback):
        """Every step takes a second, the first one ten."""

        now = 0.0

        def on_train_batch_begin(self, batch, logs=None):
            self.now += 1.0 if batch else 10.0

    clock, record = Clock(), RunRecord()
    monkeypatch.setattr(watching.time, "perf_counter", lambda: clock.now)
    fit(tiny_classifier(), clock, record, epochs=1, shuffle=False)
    (row,) = record.epochs
    assert row["examples_per_second"] == pytest.approx(5 / 3)


def test_a_record_has_the_losses_and_rates_of_all_steps(tiny_classifier, tmp_path):
    record = RunRecord(tmp_path / "run", TEXTS, LABELS, facts={"data": "seven texts"})
    task = tiny_classifier()
    history = fit(task, record, validation_data=(TEXTS, LABELS))
    run = json.loads((tmp_path / "run" / watching.RUN_NAME).read_text())
    assert [row["step"] for row in run["steps"]] == list(range(1, 9))
    for epoch, rows in enumerate((run["steps"][:4], run["steps"][4:])):
        assert sorted(row["examples"] for row in rows) == [1, 2, 2, 2]
        mean = sum(row["loss"] * row["examples"] for row in rows) / 7
        assert mean == pytest.approx(history["loss"][epoch], rel=1e-5)
        for name, values in history.items():
            assert run["epochs"][epoch][name] == values[epoch]
    rates = [row["learning_rate"] for row in run["steps"]]
    schedule = WarmupLinearDecay(0.01, 2, 8)
    assert rates == pytest.approx([float(schedule(step)) for step in range(1, 9)])
    assert run["model"]["task"] == "TextClassifier"
    assert run["model"]["num_parameters"] == task.count_params()
    assert run["facts"] == {"data": "seven texts"}

    lines = (tmp_path / "run" / watching.EXAMPLES_NAME).read_text().splitlines()
    for line, text, label, answer in zip(lines, TEXTS, LABELS, task.classify(TEXTS), strict=True):
        row = json.loads(line)
        assert (row["input"], row["wanted"], row["answer"]["label"]) == (text, label, answer.label)
        assert row["answer"]["probabilities"] == pytest.approx(answer.probabilities, rel=1e-5)


def test_a_long_record_holds_means_over_several_steps(tiny_classifier, monkeypatch):
    monkeypatch.setattr(watching, "MAX_ROWS", 6)
    record, whole = RunRecord(), []

    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            whole.append(logs["loss"])

    fit(tiny_classifier(), record, Losses(), epochs=3)
    assert len(record.steps) == 3
    assert record.stride == 4
    assert [row["step"] for row in record.steps] == [4, 8, 12]
    assert [row["examples"] for row in record.steps] == [7, 7, 7]
    assert [row["loss"] for row in record.steps] == pytest.approx(whole[3::4], rel=1e-5)


def test_of_many_examples_some_are_drawn(monkeypatch):
    monkeypatch.setattr(watching, "MAX_EXAMPLES", 10)
    numbers = list(range(100))
    record = RunRecord(examples=[str(n) for n in numbers], wanted=numbers)
    assert len(record.examples) == 10
    assert record.examples == [str(n) for n in record.wanted]
    assert record.num_examples == 100


def test_a_record_goes_on_with_its_training(tiny_classifier, tmp_path):
    def train(directory, *callbacks):
        record = RunRecord()
        where = Checkpoints(directory, every_steps=1)
        fit(tiny_classifier(), record, *callbacks, resume=where)
        return record

    whole = train(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the power went off"):
        train(tmp_path / "broken", Dies(6))
    resumed = train(tmp_path / "broken")
    assert resumed.steps == whole.steps
    assert [row["loss"] for row in resumed.epochs] == [row["loss"] for row in whole.epochs]


def test_examples_need_their_answers():
    with pytest.raises(ValueError, match="got 7 examples and 0 right answers"):
        RunRecord(examples=TEXTS)


@pytest.mark.parametrize(
    ("module", "make"),
    [("wandb.integration.keras", wandb_logger), ("mlflow.keras", mlflow_logger)],
)
def test_a_missing_extra_is_named(monkeypatch, module, make):
    extra = module.partition(".")[0]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'lingxi\[{extra}\]'"):
        make()


@pytest.mark.slow
def test_weights_and_biases_offline(tiny_classifier, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed (extra wandb)")
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=tmp_path, project="lingxi") as run:
        history = fit(tiny_classifier(), wandb_logger())
        assert run.summary["epoch/loss"] == pytest.approx(history["loss"][-1])
        assert "epoch/learning_rate" in run.summary.keys()  # noqa: SIM118 - it is no dict
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_mlflow_in_a_directory(tiny_classifier, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (extra mlflow)")
    pytest.importorskip("mlflow.keras", reason="mlflow lacks what its Keras callback needs")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    try:
        with mlflow.start_run() as run:
            history = fit(tiny_classifier(), mlflow_logger())
        mlflow.flush_async_logging()
        found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    finally:
        mlflow.set_tracking_uri(before)
    assert [metric.value for metric in found] == pytest.approx(history["loss"])
    assert np.all(np.diff([metric.step for metric in found]) == 1)
