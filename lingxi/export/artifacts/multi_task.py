"""Several tasks in one SavedModel."""

from lingxi.export.artifact import of_task


class ExportedMultiTask:
    """A `lingxi.tasks.MultiTask` in a SavedModel.

    Attributes:
        path: of the directory.
        metadata: what it says of itself, a dict.
        graph: a `SavedModelGraph` with the signatures of all heads.
        tasks: `{name: Artifact}`; `exported["names"]` is one of them.
    """

    def __init__(self, path, metadata, graph):
        self.path = path
        self.metadata = metadata
        self.graph = graph
        self.tasks = {
            name: of_task(path, facts, graph.head(name))
            for name, facts in metadata["tasks"].items()
        }

    def __getitem__(self, name):
        """The artifact of the task of that name."""
        if name not in self.tasks:
            raise KeyError(f"no task {name!r} in {self.path}; the tasks are {list(self.tasks)}")
        return self.tasks[name]
