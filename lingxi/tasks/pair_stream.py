"""Pairs of a table larger than memory, to batches of as many tokens as those in memory have."""

import collections
import itertools

import numpy as np

from lingxi.answers.progress import counted
from lingxi.tasks import text_data
from lingxi.tasks.pair_data import CHUNK, TOKENS_PER_BATCH, neighbours
from lingxi.tasks.text_batches import TextBatches


class PairStream(TextBatches):
    """Batches of pairs that come one by one, of as many tokens as those of `PairBatches`.

    A pair waits for others with as many source and target tokens, within an eighth; as soon as
    there are `tokens_per_batch` of them they are a batch, so that there is little padding. Those
    that wait at the end are sorted by length and cut. So a pass has as many batches in any order.

    To count them the texts are tokenized once more, in the beginning; of each pair 8 bytes stay in
    memory.

    Args:
        task: a `lingxi.tasks.Translator` or `Summarizer`.
        tokens_per_batch: source and target tokens, with their padding, at most; of one longer pair
            a batch is made nevertheless.
        args, kwargs: as of `TextBatches`; if the order is "given", batches hold neighbours.
    """

    def __init__(self, *args, tokens_per_batch=TOKENS_PER_BATCH, **kwargs):
        self.tokens_per_batch = tokens_per_batch
        super().__init__(*args, **kwargs)

    def _count_batches(self, num_examples):
        self.lengths = self._lengths()
        return sum(1 for _ in self._cut((number,) for number in range(num_examples)))

    def _lengths(self):
        """Tokens of source and target, rounded up: int32 `[pairs, 2]`, in the given order."""
        examples = iter(counted(self.examples(None), "count tokens", "pair"))
        lengths = []
        while chunk := list(itertools.islice(examples, CHUNK)):
            sources, targets = zip(*(texts for _, texts in chunk), strict=True)
            inputs, target_ids = self.task.encode(sources, targets)
            ids = inputs["token_ids"], target_ids
            lengths.append(np.stack([side.row_lengths().numpy() for side in ids], axis=1))
        return _rounded_up(np.concatenate(lengths))

    def _cut(self, examples, random=None):
        measured = ((example, tuple(self.lengths[example[0]].tolist())) for example in examples)
        if self.order == "given":
            yield from neighbours(measured, self.tokens_per_batch)
            return
        waiting = collections.defaultdict(list)
        for example, lengths in measured:
            alike = waiting[lengths]
            alike.append(example)
            if (len(alike) + 1) * sum(lengths) > self.tokens_per_batch:
                yield waiting.pop(lengths)
        by_target = sorted(waiting, key=lambda lengths: lengths[::-1])
        rest = ((example, lengths) for lengths in by_target for example in waiting[lengths])
        batches = list(neighbours(rest, self.tokens_per_batch))
        if random is not None and self.order == "shuffled":
            random.shuffle(batches)
        yield from batches

    def _size(self):
        return {"tokens_per_batch": self.tokens_per_batch}


def _rounded_up(lengths):
    """Lengths rounded up by less than an eighth, so that few different ones are left."""
    octave = np.floor(np.log2(np.maximum(lengths, 1)))
    step = np.maximum(2 ** (octave - 3), text_data.LENGTH_STEP)
    return (np.ceil(lengths / step) * step).astype("int32")
