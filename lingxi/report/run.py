"""What a training left in its directory."""

import dataclasses
import json
import pathlib

RUN_NAME = "run.json"
EXAMPLES_NAME = "examples.jsonl"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training, as `lingxi.training.RunRecord` wrote it.

    Attributes:
        directory: of the run.
        model: what was trained, and by what.
        facts: what the user said of it.
        num_examples: that there were for `examples`, of which some may have been drawn.
        seconds: that it took.
        epochs: a dict of metrics for each.
        steps: a dict with `step`, `loss` and `learning_rate` for one or several steps each.
        examples: dicts with `input`, `wanted` and `answer`; none before the training has ended.
    """

    directory: pathlib.Path
    model: dict
    facts: dict
    num_examples: int
    seconds: float
    epochs: list
    steps: list
    examples: list

    @classmethod
    def read(cls, directory):
        """The run in a directory.

        Raises:
            FileNotFoundError: it holds none. ValueError: its files are damaged.
        """
        directory = pathlib.Path(directory).expanduser()
        path = directory / RUN_NAME
        if not path.is_file():
            raise FileNotFoundError(
                f"{directory} has no {RUN_NAME}, so it is not the directory of a run: `lingxi "
                "train --output` writes one, and so does the callback lingxi.training.RunRecord"
            )
        examples = directory / EXAMPLES_NAME
        try:
            contents = json.loads(path.read_text("utf-8"))
            lines = examples.read_text("utf-8").splitlines() if examples.is_file() else []
            return cls(directory, **contents, examples=[json.loads(line) for line in lines])
        except (TypeError, ValueError) as error:
            raise ValueError(f"the record of the run in {directory} is damaged: {error}") from None
