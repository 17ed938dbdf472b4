"""The card of an artifact: what it was made of, by what, and the report of its verification."""

import dataclasses
import datetime
import json

import tensorflow as tf

import lingxi
from lingxi.export import metadata
from lingxi.export.verification import size


def make(task, told=None):
    """The card of a new artifact of `task`, as a dict for JSON.

    Args:
        told: what the user says of it, such as `{"training_data": …, "metrics": …}`.

    Raises:
        ValueError: it is no dict, or has a key of the card's own. TypeError: JSON cannot hold it.
    """
    known = {
        "architecture": type(task.backbone).__name__,
        "num_parameters": task.count_params(),
        "lingxi": lingxi.__version__,
        "tensorflow": tf.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    told = {} if told is None else told
    own = {*known, "verification"}
    if not isinstance(told, dict) or own & set(told):
        raise ValueError(
            'card must be a dict such as {"training_data": …, "metrics": …}, without what lingxi '
            f"fills in ({', '.join(sorted(own))}); got {told!r}"
        )
    try:
        json.dumps(told)
    except TypeError as error:
        raise TypeError(f"card must hold what JSON can: {error}") from None
    return {**told, **known}


def seal(path, report):
    """Put `report` into the card of a new artifact, and the checksums of all that it holds.

    Returns:
        `report` with the size that the artifact has now.
    """
    facts = metadata.read(path)
    facts["card"]["verification"] = _plain(report)
    metadata.seal(path, facts)
    return dataclasses.replace(report, size=size(path))


def _plain(report):
    """A `Report` for JSON: latencies in seconds; path and size are those of the file itself."""
    plain = dataclasses.asdict(dataclasses.replace(report, heads={}))
    del plain["path"], plain["size"], plain["heads"]
    if report.heads:
        plain["heads"] = {name: _plain(head) for name, head in report.heads.items()}
    return plain
