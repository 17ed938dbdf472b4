"""How `lingxi train` trains: schedules, techniques, TensorBoard."""

import pytest

from lingxi import training
from lingxi.cli import train


@pytest.fixture
def trained(lingxi, model, table):
    """A function: the outcome of a short training with these flags."""

    def run(*flags):
        data = ("--data", table, "--validation", table, "--preset", model, "--output", "run")
        sizes = ("--epochs", 1, "--batch_size", 4, "--max_length", 16)
        return lingxi("train", *data, *sizes, *flags)

    return run


def test_schedule_technique_and_layer_decay_reach_the_training(trained, tmp_path, monkeypatch):
    seen = {}

    def fit(self, *data, **options):
        seen.update(options, recomputed="call" in vars(self.backbone.blocks[0]))
        raise ValueError("seen")

    monkeypatch.setattr("lingxi.tasks.TextClassifier.fit", fit)
    trained(
        *("--schedule", "cosine", "--warmup", 0.3, "--layer_decay", 0.9, "--technique", "r_drop"),
        *("--xla", "--recompute"),
    )
    assert seen["recomputed"]
    assert isinstance(seen.pop("technique"), training.RDrop)
    wanted = {"schedule": "cosine", "warmup": 0.3, "layer_decay": 0.9, "jit_compile": True}
    assert {name: seen[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [((), "bfloat16"), (("--precision", "float32"), "float32")],
)
def test_it_trains_in_what_is_fast_here_unless_told(trained, monkeypatch, flags, dtype):
    def fit(self, *data, **options):
        assert self.backbone.compute_dtype == dtype and self.dtype == "float32"
        raise ValueError("seen")

    monkeypatch.setattr(training, "fastest_precision", lambda: "mixed_bfloat16")
    monkeypatch.setattr("lingxi.tasks.TextClassifier.fit", fit)
    assert "seen" in trained(*flags).err


def test_every_schedule_and_technique_has_its_name():
    assert set(train.FLAGS["schedule"].parser.enum_values) == set(training.SCHEDULES)
    for name in train.TECHNIQUES.values():
        assert issubclass(getattr(training, name), training.Technique)


def test_a_training_in_tensorboard(trained, tmp_path):
    pytest.importorskip("tensorboard")
    outcome = trained("--technique", "fgm", "--tensorboard", "logs")
    assert outcome.status == 0, outcome.err
    assert list((tmp_path / "logs" / "train").glob("events.*"))
    assert (tmp_path / "logs" / "tokens.tsv").is_file()


def test_a_profile_needs_a_place(trained):
    outcome = trained("--profile")
    assert outcome.status == 2
    assert "--tensorboard" in outcome.err
