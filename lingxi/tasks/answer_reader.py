"""From questions and contexts to windows, and from spans in windows to answers."""

import functools

import numpy as np
import tensorflow as tf

from lingxi.text.tokenizer import STRINGS
from lingxi.text.windows import windows

FOUND = {  # what `QuestionAnswerer.answers` gives
    "start": tf.int32,
    "end": tf.int32,
    "score": tf.float32,
    "no_answer": tf.float32,
    "log_total": tf.float32,
}


class AnswerReader:
    """What a `QuestionAnswerer` and its artifacts share: all but the model.

    Args:
        tokenizer: a `lingxi.text.Tokenizer`.
        max_length: of a window, in tokens.
        overlap: tokens that a window shares with the next one; a third of a window at most.
        max_question: tokens of a question; a quarter of a window at most.
        no_answer: whether a context may have no answer.
        pad_to_max_length: every window; else to the longest.
    """

    def __init__(
        self, tokenizer, max_length, overlap, max_question, no_answer, pad_to_max_length=False
    ):
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.overlap = min(overlap, max_length // 3)
        self.max_question = min(max_question, max_length // 4)
        self.no_answer = no_answer
        self.pad_to_max_length = pad_to_max_length

    def cut(self, questions, contexts):
        """The `lingxi.text.windows.Windows` of contexts, in TensorFlow's graph.

        Their inputs have also `can_answer`, bool `[windows, seq]`: the tokens of the context.
        """
        cut = windows(
            self.tokenizer,
            contexts,
            self.max_length,
            self.overlap,
            questions,
            self.max_question,
            self.pad_to_max_length,
        )
        return cut._replace(inputs={**cut.inputs, "can_answer": cut.ends > cut.starts})

    @functools.cached_property
    def cut_graph(self):
        """`cut` for eager calls."""
        return tf.function(self.cut, input_signature=[STRINGS, STRINGS], autograph=False)

    def answers(self, contexts, rows, starts, ends, found):
        """The answer in each context, string `[batch]`, in TensorFlow's graph.

        Of the windows of a context that with the best span has the answer. Its probability is
        `exp(best - log Z)`, where `Z = Σ exp(span) + exp(none)` over all spans of all windows; and
        `none` is the lowest logit that any of them has for no answer, as in SQuAD 2.0's scripts:
        only what no window answers has none.

        Args:
            rows, starts, ends: of the `Windows` that `cut` makes of the contexts.
            found: what `QuestionAnswerer.answers` gives for them.

        Returns:
            `text` string; `start`, `end` int32, in characters; `score` float32, the probability
            of this answer; `no_answer_score` float32, that of none. All `[batch]`. Where there is
            no answer, the text is empty, and start and end are 0.
        """
        batch = tf.size(contexts)
        best = tf.math.unsorted_segment_max(found["score"], rows, batch)
        none = tf.math.unsorted_segment_min(found["no_answer"], rows, batch)
        top = tf.maximum(tf.math.unsorted_segment_max(found["log_total"], rows, batch), none)
        total = tf.math.unsorted_segment_sum(
            tf.exp(found["log_total"] - tf.gather(top, rows)), rows, batch
        )
        log_total = top + tf.math.log(total + tf.exp(none - top))

        is_best = found["score"] == tf.gather(best, rows)
        window = tf.where(is_best, tf.range(tf.size(rows)), 0)
        window = tf.math.unsorted_segment_max(window, rows, batch)
        place = tf.stack([window, tf.gather(found["start"], window)], axis=1)
        start = tf.gather_nd(starts, place)
        place = tf.stack([window, tf.gather(found["end"], window)], axis=1)
        end = tf.gather_nd(ends, place)

        has_none = (none > best) & self.no_answer
        start, end = (tf.where(has_none, 0, index) for index in (start, end))
        return {
            "text": tf.strings.substr(contexts, start, end - start, unit="UTF8_CHAR"),
            "start": start,
            "end": end,
            "score": tf.exp(tf.where(has_none, none, best) - log_total),
            "no_answer_score": tf.exp(none - log_total),
        }

    @functools.cached_property
    def answers_graph(self):
        """`answers` for eager calls."""
        of_windows = tf.TensorSpec([None], tf.int32), *2 * [tf.TensorSpec([None, None], tf.int32)]
        found = {name: tf.TensorSpec([None], dtype) for name, dtype in FOUND.items()}
        signature = [STRINGS, *of_windows, found]
        return tf.function(self.answers, input_signature=signature, autograph=False)

    def targets(self, cut, spans):
        """The columns of the first and the last token of an answer: int32 `[windows, 2]`.

        Both are 0, the first special token, in a window that does not hold the whole answer.

        Args:
            cut: what `cut` makes of the contexts.
            spans: int `[batch, 2]`, start and end of each answer in characters; (0, 0) for none.
        """
        rows = cut.rows.numpy()
        start, end = spans[rows].T[:, :, np.newaxis]  # [windows, 1]
        inside = (cut.ends.numpy() > start) & (cut.starts.numpy() < end)
        inside &= cut.inputs["can_answer"].numpy()  # [windows, seq]
        tokens, after_all = cut.tokens.numpy(), np.iinfo("int32").max
        first = np.where(inside, tokens, after_all).min(axis=1)  # [windows]
        last = np.where(inside, tokens, -1).max(axis=1)
        first_of_all = np.full(len(spans), after_all)
        last_of_all = np.full(len(spans), -1)
        np.minimum.at(first_of_all, rows, first)
        np.maximum.at(last_of_all, rows, last)
        whole = (last >= 0) & (first == first_of_all[rows]) & (last == last_of_all[rows])
        columns = np.stack(
            [inside.argmax(axis=1), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)], axis=1
        )
        return np.where(whole[:, np.newaxis], columns, 0).astype("int32")
