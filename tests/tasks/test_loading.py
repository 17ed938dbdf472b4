"""A trained directory opens as the task that it holds."""

import json

import pytest

from lingxi import tasks
from tests.tasks.test_text_regressor import new_task


def test_what_a_task_saved_opens_as_that_task(tiny_classifier, vocabulary, tmp_path):
    for name, task in (("a", tiny_classifier()), ("b", new_task(vocabulary))):
        task.save_preset(tmp_path / name)
        assert type(tasks.load(tmp_path / name)) is type(task)


def test_what_transformers_saved_opens_by_its_architecture(tiny_classifier, tmp_path):
    tiny_classifier().save_preset(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["lingxi"]
    path.write_text(json.dumps(config))
    assert isinstance(tasks.load(tmp_path), tasks.TextClassifier)


def test_a_bare_encoder_is_no_task(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        tasks.load(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(ValueError, match="which tell no task"):
        tasks.load(tmp_path)
