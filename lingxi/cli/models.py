"""Loading what --model names."""

import pathlib

from lingxi.cli.quiet import quiet_tensorflow
from lingxi.export import quality


class Model:
    """A trained task or its export.

    Args:
        task: a `lingxi.tasks.Task`, or what `lingxi.export.load` gives.
        kind: the class of the task.
    """

    def __init__(self, task, kind):
        self.task = task
        self.kind = kind.__name__
        self.verb = kind.verb

    @property
    def facts(self):
        """What the task says of itself in its exports."""
        return getattr(self.task, "metadata", None) or self.task.export_metadata()

    def __call__(self, texts):
        """The answer to each text, or pair of texts."""
        return quality.ask(self.task, self.verb, texts)


def load(path, debug=False, head=None):
    """The `Model` of the preset directory or of the exported artifact at `path`.

    Args:
        head: the name of one task of several in it.
    """
    with quiet_tensorflow(debug):
        from lingxi import export, tasks
        from lingxi.tasks.loading import task_class

        if not is_artifact(path):
            task = head_of(tasks.load(path), head)
            return Model(task, type(task))
        artifact = head_of(export.load(pathlib.Path(path).expanduser()), head)
        facts = artifact.metadata
        model = Model(artifact, task_class(facts["task"]))
        if model.verb in ("classify", "rate", "tag", "answer", "embed"):  # quick, and logs as well
            model([("a", "a")] if facts["pairs"] else ["a"])
        return model


def head_of(model, name):
    """The task of that name where a model, or its export, has several; else the model itself.

    Raises:
        ValueError: several and no name, or a name of none.
    """
    heads = getattr(model, "tasks", None)
    if heads is None and name is not None:
        raise ValueError(f"--head={name} is for models of several tasks; this one has one")
    if heads is None:
        return model
    if name not in heads:
        raise ValueError(f"this model has several tasks: pass --head, one of {', '.join(heads)}")
    return heads[name]


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
