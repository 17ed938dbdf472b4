"""What an artifact says of itself, and the vocabulary that it carries.

In a SavedModel these files lie in `assets.extra/`. In a TFLite file they are a zip archive behind
the model, where TFLite's own metadata keeps its associated files: interpreters ignore it.
"""

import json
import pathlib
import tempfile
import zipfile

METADATA_NAME = "lingxi.json"
EXTRA_ASSETS = "assets.extra"


def describe(task, **settings):
    """The metadata of one artifact of `task`, as a dict for JSON."""
    return {**task.export_metadata(), **settings}


def write_beside(directory, metadata):
    """Into the `assets.extra/` of a SavedModel."""
    extra = pathlib.Path(directory) / EXTRA_ASSETS
    extra.mkdir()
    (extra / METADATA_NAME).write_text(_to_json(metadata), "utf-8")


def append(path, metadata, tokenizer=None, files=()):
    """Behind the model in a TFLite file, with the tokenizer's files if there is one.

    Args:
        files: `{name: text}` of more files.
    """
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(METADATA_NAME, _to_json(metadata))
        for name, contents in dict(files).items():
            archive.writestr(name, contents)
        if tokenizer is not None:
            with tempfile.TemporaryDirectory() as folder:
                tokenizer.save(folder)
                for file in sorted(pathlib.Path(folder).iterdir()):
                    archive.write(file, file.name)


def read(path):
    """The metadata of an artifact.

    Raises:
        ValueError: `path` is no artifact that lingxi wrote.
    """
    path = pathlib.Path(path)
    if path.is_dir() and (path / EXTRA_ASSETS / METADATA_NAME).is_file():
        return json.loads((path / EXTRA_ASSETS / METADATA_NAME).read_text("utf-8"))
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if METADATA_NAME in archive.namelist():
                return json.loads(archive.read(METADATA_NAME))
    raise ValueError(
        f"{path} is not an artifact of lingxi: it has no {METADATA_NAME}. Accepted: a file that "
        "lingxi.export.tflite wrote, or a directory that lingxi.export.saved_model wrote"
    )


def extract(path, folder):
    """All files packed in a TFLite file, into `folder`."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)


def _to_json(metadata):
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
