"""Named entities: where in a text they stand, and of which type they are."""

import contextlib
import dataclasses

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from keras import ops

from lingxi.answers.batches import stacked
from lingxi.layers import Dense, LinearChainCrf
from lingxi.tasks import text_data
from lingxi.tasks.entities import EntityReader
from lingxi.tasks.head_task import HeadTask
from lingxi.tasks.labels import Labels
from lingxi.tasks.tagged_data import read_tagged
from lingxi.tasks.task import run_batches
from lingxi.text.strings import as_strings
from lingxi.text.tags import TagScheme
from lingxi.training import IGNORED, EntityScores, TokenCrossEntropy, token_divergence
from lingxi.zoo import Bert, checkpoint

TEXTS_AT_ONCE = 2048  # whose windows are sorted by length together
UNLIKELY = -10.0  # what a CRF gives at first to a tag that goes on with no entity
ARCHITECTURES = {  # of a `model_type`, in `transformers`
    "bert": "BertForTokenClassification",
    "roberta": "RobertaForTokenClassification",
    "distilbert": "DistilBertForTokenClassification",
    "electra": "ElectraForTokenClassification",
}


@dataclasses.dataclass(frozen=True)
class Entity:
    """A named entity.

    Attributes:
        label: its type.
        text: `text[start:end]` of the text that it stands in.
        start, end: in characters, as Python indexes a `str`.
        score: the probability of its tags, the mean over its words.
    """

    label: str
    text: str
    start: int
    end: int
    score: float


@keras.saving.register_keras_serializable(package="lingxi")
class TokenClassifier(HeadTask):
    """An encoder that tags words, trained and called on raw text.

    As a Keras model it takes what `tokenizer` returns and gives logits `[batch, seq, tags]`. The
    tag of a word is that of its first token. Texts of any length are read in overlapping windows.

    Args:
        backbone: a `lingxi.zoo.Bert`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`.
        labels: types of entities (`["PER", "LOC"]`), or tags, in the order of the logits (`["O",
            "B-PER", "I-PER"]`; IOBES and plain types without prefixes too, with "O").
        crf: a linear-chain conditional random field on the logits, which learns what tag follows
            which, and finds the best sequence. It begins with the knowledge that "I-PER" goes on
            with a person: at the small rate of an encoder it would hardly learn it. (MiniLM after
            an epoch of WNUT-17: F1 0.501 on dev; 0.357 without this knowledge, as without a CRF.)
        max_length: of a window in tokens, by default the model's longest.
        overlap: tokens that a window shares with the next one; by default a quarter of a window.
        dropout: before the head; by default the backbone's.
    """

    architectures = (Bert,)
    verb = "tag"
    target = "list of entities"
    takes_pairs = False
    reads_text_in_tflite = False  # windows and offsets need TensorFlow

    def __init__(
        self,
        backbone,
        tokenizer,
        labels,
        crf=False,
        max_length=None,
        overlap=None,
        dropout=None,
        **kwargs,
    ):
        super().__init__(backbone, tokenizer, max_length, **kwargs)
        names = Labels(labels).names
        self.scheme = TagScheme(names) if "O" in names else TagScheme.for_types(names)
        self.overlap = self.max_length // 4 if overlap is None else overlap
        if not 0 <= self.overlap < self.max_length - tokenizer.template.num_special(1):
            raise ValueError(
                f"overlap must be from 0 to less than the tokens of a window, got {self.overlap} "
                f"with max_length {self.max_length}"
            )
        self.dropout = backbone.config.dropout if dropout is None else dropout
        self.head_dropout = keras.layers.Dropout(self.dropout, name="head_dropout")
        self.head = Dense(
            len(self.tags),
            kernel_initializer=keras.initializers.TruncatedNormal(
                stddev=backbone.config.initializer_range
            ),
            dtype="float32",
            name="head",
        )
        self.head.build((None, backbone.config.hidden_dim))
        self.crf, self._step_state = None, None
        if crf:
            self.crf = LinearChainCrf(len(self.tags), dtype="float32", name="crf")
            self.crf.build((None, None, len(self.tags)))
            transitions, start_scores = _first_beliefs(self.scheme)
            self.crf.transitions.assign(transitions)
            self.crf.start_scores.assign(start_scores)
        if backbone.pooler is not None:
            backbone.pooler.trainable = False  # nobody reads it
        self.reader = EntityReader(tokenizer, self.scheme, self.max_length, self.overlap)
        self.built = True

    @property
    def tags(self):
        """Tag names, in the order of the logits."""
        return self.scheme.names

    @property
    def labels(self):
        """Types of entities."""
        return self.scheme.types

    # The Keras model

    def features(self, inputs, training=None):
        """What the head reads of tokenized inputs, `[batch, seq, hidden]`."""
        inputs = {name: values for name, values in inputs.items() if name != "word_starts"}
        return self.backbone(inputs, training=training)["sequence_output"]

    def outputs(self, features, training=None):
        return self.head(self.head_dropout(features, training=training))  # [batch, seq, tags]

    def default_loss(self):
        """Cross-entropy of the tags; with a CRF, its negative log-likelihood in place of it."""
        return TokenCrossEntropy()

    def default_metrics(self):
        """Precision, recall and F1 of whole entities."""
        return [EntityScores(self.tags)]

    def metrics_example(self):
        """Targets and logits of one example."""
        return np.zeros((1, 1), "int32"), np.zeros((1, 1, len(self.tags)), "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if self.crf is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        is_word = ops.not_equal(y, IGNORED)  # [batch, seq]
        weight = 1.0 if sample_weight is None else ops.cast(sample_weight, "float32")
        log_likelihood = self.crf.log_likelihood(y_pred, y, is_word) * weight  # [batch]
        num_words = ops.sum(ops.cast(is_word, "float32"))
        return -ops.sum(log_likelihood) / ops.maximum(num_words, 1.0)

    def divergence(self, x, y, outputs, others, sample_weight=None):
        if self.crf is not None:
            raise TypeError(
                "a TokenClassifier with a CRF has probabilities of whole sequences of tags, whose "
                "divergence is not known here; train it without VirtualAdversarial and RDrop, or "
                "with crf=False"
            )
        return token_divergence(y, outputs, others, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if self.crf is not None:
            with self._readable_weights():
                tag_ids = self.crf.decode(y_pred, ops.not_equal(y, IGNORED))
            y_pred = ops.one_hot(tag_ids, len(self.tags))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, *batch):
        with self._within_step(*batch[:-1]):
            return super().train_step(*batch)

    def test_step(self, *batch):
        with self._within_step(*batch[:-1]):
            return super().test_step(*batch)

    @contextlib.contextmanager
    def _within_step(self, *state):
        """On JAX the weights are arguments of a step, `state`, which metrics are not given."""
        self._step_state = state
        try:
            yield
        finally:
            self._step_state = None

    def _readable_weights(self):
        if not self._step_state:
            return contextlib.nullcontext()
        trainable, others, *_ = self._step_state[0]
        pairs = zip(self.trainable_variables, trainable, strict=True)
        pairs = [*pairs, *zip(self.non_trainable_variables, others, strict=True)]
        return keras.StatelessScope(state_mapping=pairs)

    def fit(self, x=None, y=None, validation_data=None, **kwargs):
        """Train on raw texts.

        Args:
            x: anything that `lingxi.tasks.tagged_data.read_tagged` takes: the path of a CoNLL file
                or of a JSONL file with spans, the name of a prepared TFDS data set (its splits
                "train" and "validation" are used), texts, or lists of words; or tokenized inputs,
                as `keras.Model.fit` takes them.
            y: of texts the entities `(start, end, label)`, of words their tags.
            validation_data: as `x`, or `(x, y)`.
            kwargs: as in `lingxi.tasks.TextClassifier.fit`, but for `class_weight`.
        """
        if _is_name(x) and validation_data is None:
            validation_data = read_tagged(x, split="validation")
        if validation_data is not None and not isinstance(
            validation_data, (tuple, tf.data.Dataset)
        ):
            validation_data = (validation_data, None)
        return super().fit(x, y, validation_data, **kwargs)

    def examples(self, x, y=None):
        return read_tagged(x, y), ()

    def _batches(self, x, y, batch_size, order, sample_weight=None, seed=None):
        if text_data.is_raw(x):
            x, y = self.examples(x, y)
        return super()._batches(x, y, batch_size, order, sample_weight, seed)

    def _raw_batches(self, x, y, batch_size, order, sample_weight=None, seed=None, max_length=None):
        """Batches of windows: of `TaggedText`s with what to learn, or (`y` is None) of texts."""
        self.checked_max_length(max_length)
        is_tagged = y is not None
        texts = as_strings([example.text for example in x] if is_tagged else x, "texts")
        cut, targets = self.reader.cut_graph(texts), None
        if is_tagged:
            self._check_types(x)
            targets, cut, widened, lost = self.reader.targets(cut, x)
            if widened or lost:
                logging.warning(
                    "of the entities in %d texts, %d end within a word and were read as whole "
                    "words, and %d are left out: others have their words, or no token stands for "
                    "them",
                    len(x),
                    widened,
                    lost,
                )
        if sample_weight is not None:
            if len(sample_weight) != len(x):
                raise ValueError(f"got {len(x)} texts, but {len(sample_weight)} sample weights")
            sample_weight = np.asarray(sample_weight, "float32")[cut.rows.numpy()]
        return window_batches(self, cut, batch_size, order, targets, sample_weight, seed)

    def _check_types(self, examples):
        types = {kind for example in examples for _, _, kind in example.entities}
        unknown = sorted(types - set(self.labels))
        if unknown:
            raise ValueError(
                f"the texts have entities of the types {unknown}, which this model does not know; "
                f"it has {self.labels}"
            )

    def encode_in_graph(self, *batch):
        raise TypeError(
            "a TokenClassifier takes data sets of tokenized inputs only; pass texts as a list, or "
            "the path of a file"
        )

    def with_labels(self, labels):
        """A tagger that knows these types too, and tags what this one does as this one does.

        It has the same backbone, not a copy, and a head whose old rows are those of this one. Train
        it on examples of all types: on the new ones alone it would forget the old ones.
        """
        first, kinds = self.labels[0], self.scheme.type_ids
        prefixes = [
            tag.removesuffix(first) for tag, kind in zip(self.tags, kinds, strict=True) if kind == 0
        ]
        more = type(self)(
            self.backbone,
            self.tokenizer,
            [*self.tags, *(prefix + x for x in Labels(labels).names for prefix in prefixes)],
            self.crf is not None,
            self.max_length,
            self.overlap,
            self.dropout,
        )
        pairs = [(self.head, more.head)]
        if self.crf is not None:
            pairs.append((self.crf, more.crf))
        for mine, other in pairs:
            for old, new in zip(mine.weights, other.weights, strict=True):
                value = np.array(new)
                value[tuple(slice(n) for n in old.shape)] = old
                new.assign(value)
        return more

    # The verb

    def tag(self, texts, batch_size=None, verbose="auto"):
        """The entities of each text, a list of `Entity`.

        Args:
            texts: list or array of strings, of any length; or one string.
            batch_size: windows a step; they are grouped by length.
            verbose: a progress bar: True, False, or "auto" (for many windows).
        """
        if isinstance(texts, str):
            return self.tag([texts], batch_size, verbose)[0]
        if not len(texts):
            return []
        return entities_of(self.answers_to(texts, batch_size, verbose, "tag"))

    def answers_to(self, x, batch_size=None, verbose=False, description="", max_length=None):
        """As `EntityReader.entities`, arrays `[texts, …]`."""
        self.checked_max_length(max_length)
        parts = []
        texts = as_strings(x, "texts")
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            part = texts[start : start + TEXTS_AT_ONCE]
            cut = self.reader.cut_graph(part)
            batches = window_batches(self, cut, batch_size, "sorted")
            answers = run_batches(self._answers_graph, batches, verbose, description)
            found = self.reader.entities_graph(
                part, cut.tokens, answers["tag_ids"], answers["scores"]
            )
            parts.append({name: values.numpy() for name, values in found.items()})
        return stacked(parts)

    # Serving

    def tokenized_signature(self, batch=None, length=None):
        signature = super().tokenized_signature(batch, length)
        if self.crf is not None:
            signature["word_starts"] = tf.TensorSpec([batch, length], tf.bool, name="word_starts")
        return signature

    def answers(self, inputs):
        """Windows to the tag of each token, in TensorFlow's graph.

        With a CRF the inputs have also `word_starts` bool `[windows, seq]`, the tokens that begin
        a word: it reads no others.

        Returns:
            `tag_ids` int32 and `scores` float32, its probability, `[windows, seq]`.
        """
        logits = tf.cast(self(inputs, training=False), tf.float32)
        if self.crf is None:
            probabilities = tf.nn.softmax(logits)
            tag_ids = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
            return {"tag_ids": tag_ids, "scores": tf.reduce_max(probabilities, axis=-1)}
        tag_ids = self.crf.decode(logits, inputs["word_starts"])
        probabilities = self.crf.marginals(logits, inputs["word_starts"])
        chosen = tf.one_hot(tag_ids, len(self.tags)) * probabilities
        return {"tag_ids": tag_ids, "scores": tf.reduce_sum(chosen, axis=-1)}

    def serving_function(self, text, pair=None, max_length=None, padding="longest", answers=None):
        """Raw texts to their entities, see `EntityReader.entities`."""
        self.checked_max_length(max_length)
        cut = self.reader.cut(text, pad_to_max_length=padding == "max_length")
        inputs = {name: cut.inputs[name] for name in self.tokenized_signature()}
        found = (answers or self.answers)(inputs)
        return self.reader.entities(text, cut.tokens, found["tag_ids"], found["scores"])

    def checked_max_length(self, max_length=None):
        """As in `Task`; once the task is made, windows have one length."""
        checked = super().checked_max_length(max_length)
        if hasattr(self, "reader") and checked != self.max_length:
            raise ValueError(
                f"this TokenClassifier reads windows of max_length {self.max_length}, got "
                f"{max_length}; texts of any length are cut into such windows"
            )
        return checked

    def export_metadata(self):
        return {
            **super().export_metadata(),
            "tags": self.tags,
            "crf": self.crf is not None,
            "overlap": self.overlap,
        }

    def disagreement(self, expected, found):
        """The share of the entities of each text that only the task or only the artifact finds."""
        pairs = zip(_spans(expected), _spans(found), strict=True)
        return np.array(
            [len(a.keys() ^ b.keys()) / max(len(a.keys() | b.keys()), 1) for a, b in pairs]
        )

    def difference(self, expected, found):
        """The largest difference of an entity's score."""
        pairs = zip(_spans(expected), _spans(found), strict=True)
        gaps = [
            abs(wanted[span] - got[span]) for wanted, got in pairs for span in wanted.keys() & got
        ]
        return max(gaps, default=0.0)

    # Presets

    @classmethod
    def from_preset(
        cls,
        name,
        labels=None,
        crf=None,
        max_length=None,
        overlap=None,
        vocabulary=None,
        load_weights=True,
        dtype=None,
        **kwargs,
    ):
        """A token classifier from a pretrained encoder, or a trained one.

        Args:
            name: as in `lingxi.zoo.Bert.from_preset`; or a directory that `save_preset` wrote, or
                that of a `…ForTokenClassification` of Hugging Face.
            labels: types of entities, or tags. Not needed for a trained model; if given and
                different from its own, the head starts anew.
            crf, max_length, overlap: by default what the directory says.
            vocabulary, load_weights, dtype: as in `TextClassifier.from_preset`.

        Raises:
            ValueError: the directory has no head and no labels were given.
        """
        parts = cls.load_parts(name, vocabulary, load_weights, dtype)
        backbone, tokenizer, directory, config = parts
        config = config or {}
        own = config.get("lingxi", {})
        trained = cls.is_trained(config, "ForTokenClassification")
        own_tags = Labels.names_in(config) if trained else None
        if labels is None and own_tags is None:
            raise ValueError(
                f"{name!r} is no trained token classifier, so it needs labels=[…], the types of "
                "entities, or their tags"
            )
        dropout = _dropout_key(backbone)
        if trained and config.get(dropout) is not None:
            kwargs.setdefault("dropout", config[dropout])
        task = cls(
            backbone,
            tokenizer,
            own_tags if labels is None else labels,
            crf=own.get("crf", False) if crf is None else crf,
            max_length=max_length or own.get("max_length"),
            overlap=own.get("overlap") if overlap is None and max_length is None else overlap,
            dtype=dtype,
            **kwargs,
        )
        if trained and load_weights and task.tags == own_tags:
            buffers = ("embeddings.position_ids",)  # of files from before transformers 4.31
            table = task.checkpoint_table(with_crf=task.crf is not None and own.get("crf", False))
            checkpoint.load(table, directory, backbone.layout.prefix, buffers)
        return task

    def preset_config(self):
        config = super().preset_config()
        own = {**config["lingxi"], "crf": self.crf is not None, "overlap": self.overlap}
        return {
            **config,
            "architectures": [ARCHITECTURES[self.backbone.config.model_type]],
            _dropout_key(self.backbone): self.dropout,
            **Labels(self.tags).to_config(),
            "lingxi": own,
        }

    def checkpoint_table(self, with_crf=True):
        """Variables and their names in a `…ForTokenClassification` checkpoint."""
        table = checkpoint.prefixed(self.backbone.checkpoint_table(), self.backbone.layout.prefix)
        table += checkpoint.dense(self.head, "classifier")
        if with_crf and self.crf is not None:
            names = ("transitions", "start_scores", "end_scores")
            table += [checkpoint.Tensors(getattr(self.crf, n), (f"crf.{n}",)) for n in names]
        return table

    def get_config(self):
        return {
            **super().get_config(),
            "labels": self.tags,
            "crf": self.crf is not None,
            "overlap": self.overlap,
            "dropout": self.dropout,
        }


def _first_beliefs(scheme):
    """Scores `[from, to]` of steps between tags and `[tags]` of first tags, before any training."""
    tags = range(len(scheme.names))
    start = np.array([scheme.problems([tag]) for tag in tags])
    step = np.array([[scheme.problems([a, b]) - start[a] for b in tags] for a in tags])
    return UNLIKELY * step, UNLIKELY * start


def window_batches(
    task, cut, batch_size=None, order="sorted", targets=None, sample_weight=None, seed=None
):
    """Batches of the windows of a `Cut`, of what `task` takes; `targets` `[windows, seq]`."""
    columns = cut.inputs if targets is None else {**cut.inputs, "targets": targets}
    columns = text_data.unpadded(columns)
    return text_data.LengthBucketedBatches(
        {name: columns[name] for name in task.tokenized_signature()},
        columns.get("targets"),
        batch_size or text_data.BATCH_SIZE,
        task.tokenizer.pad_id,
        order,
        seed=seed,
        sample_weights=sample_weight,
    )


def entities_of(answers):
    """Lists of `Entity` from the arrays of `EntityReader.entities`."""
    columns = [answers[name] for name in ("label", "text", "start", "end", "score")]
    return [
        [
            Entity(label.decode(), text.decode("utf-8", "replace"), int(start), int(end), float(p))
            for label, text, start, end, p in zip(*(c[row, :count] for c in columns), strict=True)
        ]
        for row, count in enumerate(answers["count"])
    ]


def _spans(answers):
    """`{(start, end, label): score}` of each text."""
    return [
        {(entity.start, entity.end, entity.label): entity.score for entity in entities}
        for entities in entities_of(answers)
    ]


def _dropout_key(backbone):
    return "dropout" if backbone.config.model_type == "distilbert" else "classifier_dropout"


def _is_name(x):
    """Whether `x` is the name of a TFDS data set, not a file."""
    return isinstance(x, str) and not tf.io.gfile.exists(x)
