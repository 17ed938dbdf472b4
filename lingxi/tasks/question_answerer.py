"""Extractive question answering: where in a text the answer to a question stands."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from lingxi.layers import Dense
from lingxi.tasks import squad, text_data
from lingxi.tasks.answer_reader import AnswerReader
from lingxi.tasks.head_task import HeadTask
from lingxi.tasks.task import run_batches
from lingxi.training import KlDivergence
from lingxi.zoo import Bert, checkpoint
from lingxi.zoo.huggingface.question_answering import QUESTION_ANSWERERS

MAX_LENGTH = 384  # tokens of a window, by default
SHORTEST = 16  # tokens of a window: room for special tokens, the question and some of the text
TEXTS_AT_ONCE = 1024  # whose windows are sorted by length together
LOWEST = -1e9  # a logit of no probability, yet finite


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        text: `context[start:end]`; empty where the context has no answer.
        start, end: in characters, as Python indexes a `str`; 0 where there is no answer.
        score: the probability of this answer, also of there being none where that is it.
        no_answer_score: the probability that the context has no answer.
    """

    text: str
    start: int
    end: int
    score: float
    no_answer_score: float


@keras.saving.register_keras_serializable(package="lingxi")
class QuestionAnswerer(HeadTask):
    """An encoder that finds the answer to a question in a text of any length.

    The text is cut into windows that overlap, each with the question before it. As a Keras model
    it takes windows and gives logits `[windows, seq, 2]`, of each token as the first and as the
    last of the answer; losses and metrics of `compile` see them as `[windows, 2, seq]`, with
    `LOWEST` where no answer can stand, beside targets int `[windows, 2]`. The first token stands
    for no answer in this window.

    Args:
        backbone: a `lingxi.zoo.Bert`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`.
        max_length: of a window in tokens; by default 384, or the model's longest if less.
        overlap: tokens that a window shares with the next one; at most a third of `max_length`.
        max_question: tokens of a question, the rest is cut; at most a quarter of `max_length`.
        max_answer: tokens of an answer.
        no_answer: whether "none" may be the answer, as in SQuAD 2.0; else the best one is given
            however improbable it is.
        dropout: before the head; by default the backbone's for DistilBERT, 0 for others, as in
            `transformers`.
    """

    architectures = (Bert,)
    verb = "answer"
    target = "list of answers"
    takes_only_pairs = True
    reads_text_in_tflite = False  # windows and offsets need TensorFlow

    def __init__(
        self,
        backbone,
        tokenizer,
        max_length=None,
        overlap=128,
        max_question=64,
        max_answer=30,
        no_answer=False,
        dropout=None,
        **kwargs,
    ):
        super().__init__(backbone, tokenizer, max_length, **kwargs)
        if max_length is None:
            self.max_length = min(MAX_LENGTH, self.max_length)
        for name, value, least in (
            ("overlap", overlap, 0),
            ("max_question", max_question, 1),
            ("max_answer", max_answer, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} tokens or more, got {value}")
        self.overlap = overlap
        self.max_question = max_question
        self.max_answer = max_answer
        self.no_answer = no_answer
        self._layout = QUESTION_ANSWERERS[backbone.config.model_type]
        if dropout is None:
            dropout = backbone.config.dropout if self._layout.dropout else 0.0
        self.dropout = dropout
        self.head_dropout = keras.layers.Dropout(dropout, name="head_dropout")
        self.head = Dense(
            2,
            kernel_initializer=keras.initializers.TruncatedNormal(
                stddev=backbone.config.initializer_range
            ),
            dtype="float32",
            name="head",
        )
        self.head.build((None, backbone.config.hidden_dim))
        if backbone.pooler is not None:
            backbone.pooler.trainable = False  # nobody reads it
        self.built = True

    def checked_max_length(self, max_length=None):
        max_length = super().checked_max_length(max_length)
        if max_length < SHORTEST:
            raise ValueError(
                f"a window has the question and some of its context: max_length must be "
                f"{SHORTEST} or more, got {max_length}"
            )
        return max_length

    # The Keras model

    def features(self, inputs, training=None):
        """What the head reads of tokenized inputs, `[windows, seq, hidden]`."""
        inputs = {name: values for name, values in inputs.items() if name != "can_answer"}
        return self.backbone(inputs, training=training)["sequence_output"]

    def outputs(self, features, training=None):
        return self.head(self.head_dropout(features, training=training))  # [windows, seq, 2]

    def default_loss(self):
        """The mean of the cross-entropies of start and end."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self):
        """The share of starts and ends that are right."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def metrics_example(self):
        """Targets and logits of one example."""
        return np.zeros((1, 2), "int32"), np.zeros((1, 3, 2), "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if sample_weight is not None:
            sample_weight = ops.expand_dims(sample_weight, 1)  # [windows, 1]: of start and end
        return super().compute_loss(x, y, _by_position(x, y_pred), sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if sample_weight is not None:
            sample_weight = ops.expand_dims(sample_weight, 1)
        return super().compute_metrics(x, y, _by_position(x, y_pred), sample_weight)

    def divergence(self, x, y, outputs, others, sample_weight=None):
        outputs, others = _by_position(x, outputs), _by_position(x, others)  # [windows, 2, seq]
        return KlDivergence()(outputs, others, sample_weight)

    def fit(self, x=None, y=None, validation_data=None, sample_weight=None, **kwargs):
        """Train on questions about texts.

        The first answer of each question is learnt, in every window that holds it whole; a window
        without it learns that it has none. An answer that does not stand where it says is moved
        to the nearest place that has it, or dropped; one warning counts them.

        Args:
            x: the path of a JSON file of SQuAD 1.1 or 2.0 or CMRC 2018; or any other form that
                `lingxi.tasks.squad.read_questions` takes; or windows, as `keras.Model.fit` takes
                them.
            y: of pairs `(question, context)` their answers, lists of `(text, start)`.
            validation_data: as `x`, or `(x, y)`.
            sample_weight: `[questions]`.
            kwargs: as in `lingxi.tasks.TextClassifier.fit`, but for `class_weight`; a batch has
                `batch_size` windows.
        """
        if text_data.is_raw(x):
            x, y, sample_weight = _training_data(x, y, sample_weight)
        if isinstance(validation_data, tuple):
            if text_data.is_raw(validation_data[0]):
                validation_data = _training_data(*validation_data)
        elif validation_data is not None and text_data.is_raw(validation_data):
            validation_data = _training_data(validation_data)
        return super().fit(x, y, validation_data, sample_weight=sample_weight, **kwargs)

    def evaluate(self, x=None, y=None, batch_size=None, chinese=None, verbose="auto", **kwargs):
        """Exact match and F1 of the answers to questions, in percent.

        Args:
            x, y: as in `fit`; of windows the loss and metrics, as in Keras.
            chinese: score as CMRC 2018 does, not as SQuAD does: see `lingxi.tasks.squad.scores`;
                by default where the contexts are Chinese.

        Returns:
            `{"exact_match": …, "f1": …}`.
        """
        if not text_data.is_raw(x):
            return super().evaluate(x, y, batch_size, verbose=verbose, **kwargs)
        questions = squad.read_questions(x, y)
        if not questions:
            raise ValueError("got no questions; pass at least one")
        answers = self.answers_to(_pairs(questions), batch_size, verbose, "evaluate")
        if chinese is None:
            chinese = squad.are_chinese([question.context for question in questions])
        wanted = [[text for text, _ in question.answers] for question in questions]
        return squad.scores([text.decode() for text in answers["text"]], wanted, chinese)

    def examples(self, x, y=None):
        return _training_data(x, y)[:2]

    def _raw_batches(self, x, y, batch_size, order, sample_weight=None, seed=None, max_length=None):
        """Batches of windows of `(question, context)`s and, if given, of their answers."""
        reader = self.reader(max_length)
        questions, contexts = squad.question_and_context(x)
        for name, values in (("list of answers", y), ("sample weight", sample_weight)):
            if values is not None and len(values) != len(questions):
                raise ValueError(f"got {len(questions)} questions, but {len(values)} {name}s")
        inputs, targets, weights = [], [], []
        for part in _parts(len(questions)):
            cut = reader.cut_graph(*_strings(questions[part], contexts[part]))
            inputs.append(text_data.unpadded(cut.inputs))
            if y is not None:
                targets.append(reader.targets(cut, _spans(y[part])))
            if sample_weight is not None:
                weights.append(np.asarray(sample_weight[part], "float32")[cut.rows.numpy()])
        return text_data.LengthBucketedBatches(
            {name: tf.concat([part[name] for part in inputs], axis=0) for name in inputs[0]},
            np.concatenate(targets) if targets else None,
            batch_size or text_data.BATCH_SIZE,
            self.tokenizer.pad_id,
            order,
            seed=seed,
            sample_weights=np.concatenate(weights) if weights else None,
        )

    def encode_in_graph(self, *batch):
        raise TypeError(
            "a QuestionAnswerer takes data sets of windows only; pass the path of a file of "
            "SQuAD's form, or lists"
        )

    # The verb

    def answer(self, question, context, batch_size=None, verbose="auto"):
        """An `Answer` to a question about a text; or a list of them.

        Args:
            question: one str; or a list or array of them. An empty one is answered like any other.
            context: one str, of any length; or one for each question.
            batch_size: windows a step; they are grouped by length.
            verbose: a progress bar: True, False, or "auto" (for many windows).

        Raises:
            TypeError: an item is no text.
            ValueError: an empty context; questions and contexts that are not equally many.
        """
        if isinstance(question, str):
            return self.answer([question], context, batch_size, verbose)[0]
        questions, contexts = asked(question, context)
        if not questions:
            return []
        return answers_of(self.answers_to((questions, contexts), batch_size, verbose, "answer"))

    def answers_to(self, x, batch_size=None, verbose=False, description="", max_length=None):
        """As `AnswerReader.answers`, arrays `[questions]`, for `(question, context)`s."""
        reader = self.reader(max_length)
        questions, contexts = squad.question_and_context(x)
        answers = []
        for part in _parts(len(questions)):
            asked_part, texts = _strings(questions[part], contexts[part])
            cut = reader.cut_graph(asked_part, texts)
            batches = text_data.LengthBucketedBatches(
                text_data.unpadded(cut.inputs),
                None,
                batch_size or text_data.BATCH_SIZE,
                self.tokenizer.pad_id,
                "sorted",
            )
            found = run_batches(self._answers_graph, batches, verbose, description)
            answers.append(reader.answers_graph(texts, cut.rows, cut.starts, cut.ends, found))
        return {
            name: np.concatenate([part[name].numpy() for part in answers]) for name in answers[0]
        }

    def reader(self, max_length=None, pad_to_max_length=False):
        """The `AnswerReader` of windows of so many tokens, by default the task's."""
        max_length = self.checked_max_length(max_length)
        key = max_length, pad_to_max_length
        if key not in self._readers:
            self._readers[key] = AnswerReader(
                self.tokenizer,
                max_length,
                self.overlap,
                self.max_question,
                self.no_answer,
                pad_to_max_length,
            )
        return self._readers[key]

    @functools.cached_property
    def _readers(self):
        return {}

    # Serving

    def tokenized_signature(self, batch=None, length=None):
        can_answer = tf.TensorSpec([batch, length], tf.bool, name="can_answer")
        return {**super().tokenized_signature(batch, length), "can_answer": can_answer}

    def answers(self, inputs):
        """Windows to the best span of each, in TensorFlow's graph.

        The score of a span is `start logit of its first token + end logit of its last`.

        Args:
            inputs: of the backbone, and `can_answer` bool `[windows, seq]`, the tokens of the
                context.

        Returns:
            `start`, `end` int32, the columns of the span's first and last token; `score`, and
            `no_answer`, that of the first token alone; `log_total`, log Σ exp of the scores of
            all spans of `max_answer` tokens or less. All `[windows]`, float32 but the first two.
        """
        logits = tf.cast(self(inputs, training=False), tf.float32)  # [windows, seq, 2]
        start, end = tf.unstack(logits, axis=-1)
        can_answer = inputs["can_answer"]
        windows, length = tf.unstack(tf.shape(can_answer))
        column = tf.range(length)
        distance = tf.expand_dims(column, 0) - tf.expand_dims(column, 1)  # [start, end]
        is_span = tf.expand_dims((distance >= 0) & (distance < self.max_answer), 0)
        is_span &= tf.expand_dims(can_answer, 2) & tf.expand_dims(can_answer, 1)
        scores = tf.where(is_span, tf.expand_dims(start, 2) + tf.expand_dims(end, 1), LOWEST)
        scores = tf.reshape(scores, [windows, length * length])  # [windows, start * end]

        best = tf.reduce_max(scores, axis=-1)
        index = tf.argmax(scores, axis=-1, output_type=tf.int32)
        total = tf.reduce_sum(tf.exp(scores - tf.expand_dims(best, -1)), axis=-1)
        return {
            "start": index // length,
            "end": index % length,
            "score": best,
            "no_answer": start[:, 0] + end[:, 0],
            "log_total": best + tf.math.log(total),
        }

    def serving_function(self, text, pair=None, max_length=None, padding="longest", answers=None):
        """Questions `text` and contexts `pair`, string `[batch]`: see `AnswerReader.answers`."""
        reader = self.reader(max_length, pad_to_max_length=padding == "max_length")
        cut = reader.cut(text, pair)
        found = (answers or self.answers)(cut.inputs)
        return reader.answers(pair, cut.rows, cut.starts, cut.ends, found)

    def export_metadata(self):
        return {
            **super().export_metadata(),
            "overlap": self.overlap,
            "max_question": self.max_question,
            "max_answer": self.max_answer,
            "no_answer": self.no_answer,
        }

    def disagreement(self, expected, found):
        """0 where an artifact gives the answer of the task, `[questions]`.

        Elsewhere by which part of its probability the answer of one is below that of the other, so
        that two answers that are equally probable are both right; 1 where the text is wrong.
        """
        same = (expected["start"] == found["start"]) & (expected["end"] == found["end"])
        scores = np.stack([expected["score"], found["score"]])
        gap = 1 - scores.min(axis=0) / np.maximum(scores.max(axis=0), np.finfo("float32").tiny)
        wrong = (expected["text"] != found["text"]).astype("float32")
        return np.where(same, wrong, gap)

    # Presets

    @classmethod
    def from_preset(
        cls,
        name,
        max_length=None,
        vocabulary=None,
        load_weights=True,
        dtype=None,
        **kwargs,
    ):
        """A question answerer from a pretrained encoder, or a trained one.

        Args:
            name: as in `lingxi.zoo.Bert.from_preset`; or a directory that `save_preset` wrote, or
                that of a `…ForQuestionAnswering` of Hugging Face.
            vocabulary, load_weights, dtype: as in `TextClassifier.from_preset`.
            max_length, kwargs: as of the class; by default what the directory says.
        """
        parts = cls.load_parts(name, vocabulary, load_weights, dtype)
        backbone, tokenizer, directory, config = parts
        config = config or {}
        trained = cls.is_trained(config, "ForQuestionAnswering")
        own = config.get("lingxi", {}) if trained else {}
        for key in ("overlap", "max_question", "max_answer", "no_answer", "dropout"):
            if key in own:
                kwargs.setdefault(key, own[key])
        dropout = QUESTION_ANSWERERS[backbone.config.model_type].dropout
        if trained and config.get(dropout) is not None:
            kwargs.setdefault("dropout", config[dropout])
        max_length = max_length or own.get("max_length")
        task = cls(backbone, tokenizer, max_length, dtype=dtype, **kwargs)
        if trained and load_weights:
            # Buffers and poolers of files from before transformers 4.31.
            ignored = ("embeddings.position_ids", "pooler.*")
            checkpoint.load(task.checkpoint_table(), directory, backbone.layout.prefix, ignored)
        return task

    def preset_config(self):
        config = super().preset_config()
        own = {**self.export_metadata(), **config["lingxi"], "dropout": self.dropout}
        if self._layout.dropout:
            config[self._layout.dropout] = self.dropout
        return {**config, "architectures": [self._layout.architecture], "lingxi": own}

    def checkpoint_table(self):
        """Variables and their names in a `…ForQuestionAnswering` checkpoint: it has no pooler."""
        pooler = self.backbone.pooler
        unread = {id(variable) for variable in (pooler.variables if pooler else ())}
        table = [e for e in self.backbone.checkpoint_table() if id(e.variable) not in unread]
        table = checkpoint.prefixed(table, self.backbone.layout.prefix)
        return table + checkpoint.dense(self.head, self._layout.head)

    def get_config(self):
        names = ("overlap", "max_question", "max_answer", "no_answer", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def asked(questions, contexts):
    """Two lists of str of what a caller asks: one context for all questions, or one for each.

    Raises:
        TypeError, ValueError: as `QuestionAnswerer.answer`.
    """
    if isinstance(contexts, str):
        contexts = [contexts] * len(questions)
    questions, contexts = squad.question_and_context((questions, contexts))
    for index, context in enumerate(contexts):
        if not context.strip():
            raise ValueError(f"context {index} is empty, so it answers no question; drop it first")
    return questions, contexts


def answers_of(answers):
    """A list of `Answer` from the arrays of `AnswerReader.answers`."""
    columns = (answers[field.name] for field in dataclasses.fields(Answer))
    return [
        Answer(text.decode(), int(start), int(end), float(score), float(none))
        for text, start, end, score, none in zip(*columns, strict=True)
    ]


def _by_position(x, logits):
    """Logits `[windows, seq, 2]` as `[windows, 2, seq]`, low where no answer can stand."""
    logits = ops.transpose(logits, (0, 2, 1))
    if x is None:
        return logits
    can_answer = ops.expand_dims(x["can_answer"], 1)  # [windows, 1, seq]
    is_first = ops.arange(ops.shape(logits)[2]) == 0
    return ops.where(ops.logical_or(can_answer, is_first), logits, LOWEST)


def _training_data(x, y=None, sample_weight=None):
    """Pairs, answers and weights of the questions that are left after repairing."""
    questions, kept = squad.aligned(squad.read_questions(x, y))
    if not questions:
        raise ValueError("got no questions with an answer in their context; pass at least one")
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight)[kept]
    return _pairs(questions), [question.answers for question in questions], sample_weight


def _pairs(questions):
    return [q.question for q in questions], [q.context for q in questions]


def _spans(answers):
    """Start and end of the first answer to each question, (0, 0) for none: int `[questions, 2]`."""
    return np.array(
        [(a[0][1], a[0][1] + len(a[0][0])) if a else (0, 0) for a in answers], int
    ).reshape(-1, 2)


def _parts(count):
    """Slices of `TEXTS_AT_ONCE`, at least one."""
    return [slice(i, i + TEXTS_AT_ONCE) for i in range(0, max(count, 1), TEXTS_AT_ONCE)]


def _strings(*texts):
    return tuple(tf.constant(column, tf.string, shape=[len(column)]) for column in texts)
