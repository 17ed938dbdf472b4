"""Loading what --model names."""

import dataclasses
import pathlib
from collections.abc import Callable

from lingxi.cli.quiet import quiet_tensorflow


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained classifier or its export: `classify` takes texts or pairs of texts."""

    labels: list
    multi_label: bool
    classify: Callable


def load(path, debug=False):
    """The `Model` of the preset directory or of the exported artifact at `path`."""
    if is_artifact(path):
        with quiet_tensorflow(debug):
            from lingxi import export

            artifact = export.load(pathlib.Path(path).expanduser())
            artifact.classify([("", "")] if artifact.metadata["pairs"] else [""])  # logs as well
        facts = artifact.metadata
        return Model(facts["labels"], facts["multi_label"], artifact.classify)
    with quiet_tensorflow(debug):
        from lingxi.tasks import TextClassifier
    task = TextClassifier.from_preset(path)
    return Model(task.labels, task.multi_label, task.classify)


def is_artifact(path):
    """Whether `path` is a TFLite file or a SavedModel, not a preset."""
    path = pathlib.Path(path).expanduser()
    return path.is_file() or saved_model_directory(path) is not None


def saved_model_directory(path):
    """The SavedModel in a directory or in its subdirectory of the latest version, or None."""
    if not path.is_dir():
        return None
    versions = [p for p in path.iterdir() if p.name.isascii() and p.name.isdigit()]
    versions.sort(key=lambda version: int(version.name), reverse=True)
    found = (d for d in (path, *versions) if (d / "saved_model.pb").is_file())
    return next(found, None)
