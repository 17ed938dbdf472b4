"""Loading what --model names."""

import pathlib

from lingxi.cli.startup import quiet_start


def load(path, debug=False):
    """The trained classifier in a preset directory, or the exported artifact, at `path`."""
    if is_artifact(path):
        with quiet_start(debug):
            from lingxi import export
        return export.load(path)
    with quiet_start(debug):
        from lingxi.tasks import TextClassifier
    return TextClassifier.from_preset(path)


def is_artifact(path):
    """Whether `path` is a TFLite file or a SavedModel, not a preset."""
    path = pathlib.Path(path).expanduser()
    return path.is_file() or saved_model_directory(path) is not None


def saved_model_directory(path):
    """The SavedModel in a directory or in its subdirectory of the latest version, or None."""
    if not path.is_dir():
        return None
    versions = [child for child in path.iterdir() if child.name.isdecimal()]
    versions.sort(key=lambda version: int(version.name), reverse=True)
    found = (d for d in (path, *versions) if (d / "saved_model.pb").is_file())
    return next(found, None)
