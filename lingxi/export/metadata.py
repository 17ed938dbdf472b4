"""What an artifact says of itself, the checksums of all that it holds, and the files in it.

In a SavedModel these files lie in `assets.extra/`. In a TFLite file they are a zip archive behind
the model, where TFLite's own metadata keeps its associated files: interpreters ignore it. In an
ONNX file they are the same archive, as a field of the protocol buffer that engines skip.
"""

import hashlib
import json
import mmap
import pathlib
import tempfile
import zipfile

METADATA_NAME = "lingxi.json"
EXTRA_ASSETS = "assets.extra"
CHECKSUMS = "sha256"  # key of `{part: SHA-256}` in the metadata
MODEL = "model"  # the part of a TFLite file before the archive


def describe(task, **settings):
    """The metadata of one artifact of `task`, as a dict for JSON."""
    return {**task.export_metadata(), **settings}


def write_beside(directory, metadata):
    """Into the `assets.extra/` of a SavedModel."""
    extra = pathlib.Path(directory) / EXTRA_ASSETS
    extra.mkdir(exist_ok=True)
    (extra / METADATA_NAME).write_text(_to_json(metadata), "utf-8")


def append(path, metadata, tokenizer=None, files=()):
    """Behind the model in a TFLite file, with the tokenizer's files if there is one.

    Args:
        files: `{name: contents}` of more files.
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


def seal(path, metadata):
    """Replace the metadata of an artifact, and add the checksums of all that it holds."""
    path = pathlib.Path(path)
    metadata = {**metadata, CHECKSUMS: checksums(path, metadata)}
    if path.is_dir():
        write_beside(path, metadata)
        return
    with zipfile.ZipFile(path) as archive:
        length = model_length(archive)
        files = {name: archive.read(name) for name in archive.namelist() if name != METADATA_NAME}
    with path.open("r+b") as file:
        file.truncate(length)
    append(path, metadata, files=files)


def read(path):
    """The metadata of an artifact, after a look whether the artifact is as it was written.

    Raises:
        ValueError: `path` is no artifact that lingxi wrote, or it was changed or damaged since.
    """
    path = pathlib.Path(path)
    try:
        metadata = _read(path)
        if metadata is not None:
            _check(path, metadata)
            return metadata
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}. Export or copy it again") from error
    raise ValueError(
        f"{path} is not an artifact of lingxi, or cut off: it has no {METADATA_NAME}. Accepted: a "
        "file that lingxi.export.tflite or onnx wrote, or a directory that saved_model wrote"
    )


def checksums(path, metadata):
    """`{part: SHA-256}` of all that an artifact holds.

    The parts are the files of a SavedModel; of a TFLite file "model", its weights and graph, and
    the files behind it. That of `lingxi.json` is of the metadata without the checksums.
    """
    path = pathlib.Path(path)
    own = {name: value for name, value in metadata.items() if name != CHECKSUMS}
    found = {METADATA_NAME: hashlib.sha256(_to_json(own).encode()).hexdigest()}
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.name != METADATA_NAME:
                with file.open("rb") as contents:
                    digest = hashlib.file_digest(contents, "sha256")
                found[file.relative_to(path).as_posix()] = digest.hexdigest()
        return found
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name != METADATA_NAME:
                found[name] = hashlib.sha256(archive.read(name)).hexdigest()
        length = model_length(archive)
    read_only = {"access": mmap.ACCESS_READ}
    with path.open("rb") as file, mmap.mmap(file.fileno(), length, **read_only) as model:
        found[MODEL] = hashlib.sha256(model).hexdigest()
    return found


def model_length(archive):
    """The bytes before the zip archive in a TFLite file."""
    return min(entry.header_offset for entry in archive.infolist())


def extract(path, folder):
    """All files packed in a TFLite file, into `folder`."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)


def _read(path):
    """The metadata of an artifact, or None."""
    if path.is_dir() and (path / EXTRA_ASSETS / METADATA_NAME).is_file():
        return json.loads((path / EXTRA_ASSETS / METADATA_NAME).read_text("utf-8"))
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if METADATA_NAME in archive.namelist():
                return json.loads(archive.read(METADATA_NAME))
    return None


def _check(path, metadata):
    """Raise ValueError unless all parts have their checksums; older artifacts have none."""
    written = metadata.get(CHECKSUMS, {})
    found = checksums(path, metadata) if written else {}
    changed = [part for part, checksum in written.items() if found.get(part) != checksum]
    if changed:
        raise ValueError(
            f"{path} is damaged or was changed after its export: the SHA-256 of "
            f"{', '.join(changed)} is not the one in its {METADATA_NAME}. Export or copy it again"
        )


def _to_json(metadata):
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
