"""A tiny BERT, and Hugging Face directories to damage."""

import json

import numpy as np
import pytest
import safetensors.numpy

from lingxi.zoo import Bert, BertConfig, checkpoint

SIZES = {
    "vocab_size": 11,
    "hidden_dim": 8,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_dim": 12,
    "max_length": 10,
    "num_segments": 2,
}


@pytest.fixture
def tiny_bert():
    """A function: a `Bert` whose every weight is random; arguments replace the tiny sizes."""

    def make(seed=0, dtype=None, **sizes):
        model = Bert(BertConfig(**SIZES | sizes), dtype=dtype)
        generator = np.random.default_rng(seed)
        for weight in model.trainable_weights:
            weight.assign(generator.normal(0, 0.5, weight.shape))
        return model

    return make


class Directory:
    """A Hugging Face directory whose tensors and configuration a test changes."""

    def __init__(self, path, model):
        self.path = path
        path.mkdir(parents=True)
        self.config = Bert.layouts["bert"].to_contents(model.config)
        self.tensors = {}
        for entry in model.checkpoint_table():
            self.tensors.update(zip(entry.names, entry.split(), strict=True))
        self.write()

    def write(self):
        (self.path / "config.json").write_text(json.dumps(self.config))
        safetensors.numpy.save_file(self.tensors, self.path / checkpoint.WEIGHTS_NAME)

    def write_shards(self, count=3):
        names = sorted(self.tensors)
        shards = [f"model-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
        for n, shard in enumerate(shards):
            part = {name: self.tensors[name] for name in names[n::count]}
            safetensors.numpy.save_file(part, self.path / shard)
        weight_map = {name: shards[n % count] for n, name in enumerate(names)}
        index = json.dumps({"metadata": {}, "weight_map": weight_map})
        (self.path / checkpoint.INDEX_NAME).write_text(index)
        (self.path / checkpoint.WEIGHTS_NAME).unlink()
        return [self.path / shard for shard in shards]


@pytest.fixture
def directory(tmp_path, tiny_bert):
    """The directory of `tiny_bert()`."""
    return Directory(tmp_path / "bert", tiny_bert())


@pytest.fixture
def assert_same_weights():
    def check(model, other):
        assert len(model.weights) == len(other.weights) > 0
        for ours, theirs in zip(model.trainable_weights, other.trainable_weights, strict=True):
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), ours.path)

    return check
