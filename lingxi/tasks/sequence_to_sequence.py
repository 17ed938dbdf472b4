"""What translation and summarization share: texts in, texts out, learned from pairs."""

import dataclasses
import io

import keras
import numpy as np
import tensorflow as tf

from lingxi import text
from lingxi.answers.progress import progress
from lingxi.data import TableStream
from lingxi.generation.decoder import log_probability
from lingxi.tasks import generation_config, pair_data, text_data
from lingxi.tasks.fine_tuning import LEARNING_RATE
from lingxi.tasks.generation import GenerationTask, bucketed
from lingxi.tasks.pair_data import PairBatches
from lingxi.tasks.pair_stream import PairStream
from lingxi.text.strings import as_strings
from lingxi.training import (
    IGNORED,
    AdamW,
    TextEvaluation,
    TokenAccuracy,
    TokenCrossEntropy,
    named_schedule,
    run_seed,
)
from lingxi.zoo import T5, Transformer, TransformerConfig, preset

WARMUP_STEPS = 4000  # of the paper; a shorter training warms up over a tenth of its steps
SMALL = TransformerConfig(
    model_type="marian",
    hidden_dim=256,
    num_encoder_layers=3,
    num_decoder_layers=3,
    num_heads=4,
    intermediate_dim=1024,
    max_length=512,
    positions="halves",
    dropout=0.2,
    bos_id=None,
)


class SequenceToSequence(GenerationTask):
    """An encoder–decoder trained on pairs of texts.

    As a Keras model it takes what the backbone takes and gives logits `[batch, seq, vocab]`; `fit`
    and `evaluate` also take raw texts.

    A subclass names its `verb`, and writes it by `write`.

    Args:
        backbone: a `lingxi.zoo.Transformer` or `T5`.
        tokenizer: the backbone's `lingxi.text.Tokenizer`; its `target`, if it has one, is that of
            the texts to write.
        prompt: what every source begins with, such as T5's "translate English to German: ".
        max_length: longest source and target in tokens; longer texts are cut.
        decoding: `lingxi.generation.DecodingOptions` or a dict of its arguments.
        stop: strings at which an output ends.
        label_smoothing: of the default loss.
        pretrained: whether the weights have learned already: decides how `fit` trains by default.
    """

    architectures = (Transformer, T5)
    target = "target"

    def __init__(
        self,
        backbone,
        tokenizer,
        prompt="",
        max_length=None,
        decoding=None,
        stop=(),
        label_smoothing=0.1,
        pretrained=False,
        **kwargs,
    ):
        decoding = decoding or self.default_decoding()
        super().__init__(backbone, tokenizer, max_length, decoding, stop, **kwargs)
        self.prompt = prompt
        self.label_smoothing = label_smoothing
        self.pretrained = pretrained
        self.built = True

    # The Keras model

    def call(self, inputs, training=None):
        return self.backbone(inputs, training=training)["logits"]

    def model_inputs(self, inputs):
        return {
            "encoder_token_ids": inputs["token_ids"],
            "encoder_padding_mask": inputs["padding_mask"],
        }

    def default_loss(self):
        """Cross-entropy with label smoothing, the mean over real tokens."""
        return TokenCrossEntropy(self.label_smoothing)

    def default_metrics(self):
        """Accuracy of the next token."""
        return [TokenAccuracy()]

    def metrics_example(self):
        """Targets and logits of one example."""
        vocab_size = self.backbone.target_vocab_size
        return np.zeros((1, 1), "int32"), np.zeros((1, 1, vocab_size), "float32")

    def default_optimizer(self, learning_rate=None, total_steps=None, **schedule):
        """How `fit` trains if nothing else was compiled.

        From random weights as in Vaswani et al. 2017, section 5.3: Adam(0.9, 0.98, 1e-9), linear
        warm-up, then `1 / √step`, with the peak that 4,000 steps of warm-up have there. Pretrained
        weights: AdamW at 5e-5, with warm-up and linear decay.
        """
        if self.pretrained:
            learning_rate = learning_rate or LEARNING_RATE
            return super().default_optimizer(learning_rate, total_steps, **schedule)
        total_steps = total_steps or 10 * WARMUP_STEPS
        warmup = min(WARMUP_STEPS, -(-total_steps // 10))
        peak = learning_rate or (self.backbone.config.hidden_dim * WARMUP_STEPS) ** -0.5
        schedule = {"schedule": "inverse_square_root", "warmup": warmup, **schedule}
        rate = named_schedule(schedule["schedule"], peak, total_steps, schedule["warmup"])
        return AdamW(rate, weight_decay=0.0, beta_2=0.98, epsilon=1e-9)

    def fit(
        self,
        x=None,
        y=None,
        validation_data=None,
        epochs=1,
        batch_size=None,
        tokens_per_batch=pair_data.TOKENS_PER_BATCH,
        sample_weight=None,
        shuffle=True,
        seed=None,
        learning_rate=None,
        validation_metrics=(),
        callbacks=None,
        resume=None,
        **kwargs,
    ):
        """Train on pairs of raw texts.

        Args:
            x: list of sources; or list of pairs; or path of a file with one source a line, or of
                one with source and target between tabs (".gz" is unzipped); or a `tf.data.Dataset`
                of pairs, single or batched; or a `lingxi.data.TableStream` with a `pair_column` of
                targets and a `label_column` of None; or the name of a prepared TFDS data set (its
                splits "train" and "validation"); or what `keras.Model.fit` takes, already
                tokenized.
            y: list of targets, or path of a file with one a line, where `x` has only sources.
            validation_data: `(x, y)` of the same kinds, or one of those that need no `y`.
            tokens_per_batch: source and target tokens of a batch, with their padding; a batch has
                pairs of similar lengths. The pairs of a `TableStream` are tokenized once before the
                training, to know the number of batches, which is that of every epoch.
            batch_size: pairs a batch, in place of `tokens_per_batch`: spares a `TableStream` that
                reading, but batches of long texts take more memory than others.
            sample_weight: `[pairs]`.
            seed: of the order of the pairs.
            learning_rate: the peak of the default schedule.
            validation_metrics: names of metrics for `lingxi.training.TextEvaluation`, such as
                "bleu": the validation sources are decoded greedily after every epoch. Those of a
                `TableStream` are kept in memory for it.
            resume: a directory to go on from after a failure, see `Task.fit`.
            epochs, shuffle, callbacks, kwargs: as in `keras.Model.fit`.
        """
        seed = run_seed(resume, seed)
        if validation_data is None and pair_data.names_tfds(x, y):
            validation_data = pair_data.read_pairs(x, split="validation")
        batching = {"batch_size": batch_size, "tokens_per_batch": tokens_per_batch}
        order = "shuffled" if shuffle else "given"
        data = self._batches(x, y, order=order, sample_weight=sample_weight, seed=seed, **batching)
        pairs = None
        if isinstance(validation_data, TableStream):
            stream = validation_data
            validation_data = self._batches(stream, None, order="sorted", **batching)["x"]
            if validation_metrics:
                pairs = pair_data.read_pairs([row.text for row in stream.examples()])
        elif _is_raw_pairs(validation_data):
            pairs = pair_data.read_pairs(validation_data)
            validation_data = self._batches(*pairs, order="sorted", **batching)["x"]
        if validation_metrics:
            if pairs is None:
                raise ValueError("validation_metrics need validation_data of raw texts")
            callbacks = [self._evaluation(pairs, validation_metrics), *_listed(callbacks)]
        if self.compiled and not self._compiled_by_default and not self.optimizer.built:
            self._create_training_state()
        return super().fit(
            **data,
            validation_data=validation_data,
            epochs=epochs,
            shuffle=shuffle,
            seed=seed,
            learning_rate=learning_rate,
            callbacks=callbacks,
            resume=resume,
            **kwargs,
        )

    def _evaluation(self, pairs, metrics):
        def write(texts):
            return self.write(texts, beams=1, verbose=False)

        return TextEvaluation(write, *pairs, metrics)

    def evaluate(self, x=None, y=None, batch_size=None, sample_weight=None, **kwargs):
        """As in Keras, on anything that `fit` takes (of a TFDS name, the split "validation")."""
        if x is not None and _is_raw_pairs(x):
            x, y = pair_data.read_pairs(x, y, "validation")
        return super().evaluate(x, y, batch_size, sample_weight, **kwargs)

    def predict(self, x, batch_size=None, verbose="auto", **kwargs):
        """Logits for what is tokenized already, as in Keras."""
        if text_data.is_raw(x):
            raise TypeError(
                f"predict gives logits of tokenized pairs; for texts, use {self.verb} or score"
            )
        return keras.Model.predict(self, x, batch_size=batch_size, verbose=verbose, **kwargs)

    def _batches(
        self,
        x,
        y,
        batch_size=None,
        order="sorted",
        sample_weight=None,
        seed=None,
        tokens_per_batch=pair_data.TOKENS_PER_BATCH,
    ):
        if isinstance(x, tf.data.Dataset):
            dataset = pair_data.tokenized_pairs(
                x, self._encode_pairs, *self._ids(), tokens_per_batch, order == "shuffled", seed
            )
            return {"x": dataset}
        if isinstance(x, TableStream):
            options = {"batch_size": batch_size, "tokens_per_batch": tokens_per_batch}
            options |= {"order": order, "seed": seed}
            return {"x": self.stream_batches(x, y, sample_weight, **options).dataset()}
        if not text_data.is_raw(x):
            return super()._batches(x, y, batch_size, order, sample_weight, seed)
        x, y = pair_data.read_pairs(x, y)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight, "float32")
            if sample_weight.shape != (len(x),):
                raise ValueError(
                    f"got {len(x)} pairs, but sample weights of shape {sample_weight.shape}"
                )
        options = {"order": order, "seed": seed, "sample_weights": sample_weight}
        return {"x": self.pair_batches(x, y, tokens_per_batch, batch_size, **options).dataset()}

    def stream_batches(
        self, *args, batch_size=None, tokens_per_batch=pair_data.TOKENS_PER_BATCH, **options
    ):
        if batch_size is None:
            options |= {"kind": PairStream, "tokens_per_batch": tokens_per_batch}
        else:
            options["batch_size"] = batch_size
        return super().stream_batches(*args, **options)

    def check_columns(self, table):
        if table.pair_column is None or table.label_column is not None:
            raise ValueError(
                f"a {type(self).__name__} learns from pairs of texts without labels, but got "
                f"pair_column={table.pair_column!r} and label_column={table.label_column!r}: pass "
                "TableStream(…, pair_column=…, label_column=None), where the pair_column is that "
                "of the texts to write"
            )

    def pair_batches(self, sources, targets, *args, **kwargs):
        """`lingxi.tasks.pair_data.PairBatches` of texts; further arguments are of that."""
        inputs, target_ids = self.encode(sources, targets)
        return PairBatches(inputs["token_ids"], target_ids, *self._ids(), *args, **kwargs)

    def _ids(self):
        """What the decoder starts with, and what pads source and target."""
        pad_ids = self.tokenizer.pad_id, self.output_tokenizer.pad_id
        return self.backbone.config.decoder_start_id, pad_ids

    def encode(self, x, y=None, max_length=None):
        """Raw texts to the encoder's inputs, ragged, and ragged ids of the targets, or None."""
        max_length = self.checked_max_length(max_length)
        inputs = self.tokenizer(self._prompted(x), max_length=max_length, padding=None)
        if y is None:
            return inputs, None
        outputs = self.output_tokenizer(y, max_length=max_length, padding=None)
        return inputs, outputs["token_ids"]

    def _encode_pairs(self, sources, targets):
        inputs, target_ids = self.encode(sources, targets)
        return inputs["token_ids"], target_ids

    def encode_in_graph(self, pairs):
        """Sources and targets, string `[batch]`, to a batch as `PairBatches` has them."""
        return pair_data.batch_in_graph(*self._encode_pairs(*pairs), *self._ids(), self.max_length)

    def _prompted(self, texts):
        texts = as_strings(texts, "texts")
        return tf.strings.join([self.prompt, texts]) if self.prompt else texts

    # The verb

    def write(self, texts, batch_size=None, details=False, verbose="auto", **options):
        """What the model makes of texts.

        Args:
            texts: a list or array of str, or one str.
            batch_size: texts a step; texts are grouped by length, the answers keep their order.
            details: a `lingxi.tasks.Generation`, with tokens and scores, in place of each str.
            verbose: a progress bar: True, False, or "auto" (for more than 20 batches).
            options: of `lingxi.generation.DecodingOptions`, and `stop` and `seed`, in place of
                those of the task: `beams`, `max_tokens`, `length_penalty`, ….

        Returns:
            One answer for each text, or of one str just that answer; where `num_results` is more
            than one, a list of so many in place of each.
        """
        if isinstance(texts, str):
            return self.write([texts], batch_size, details, verbose, **options)[0]
        if not len(texts):
            return []
        if options.get("temperature"):
            options.setdefault("beams", 1)
        inputs, _ = self.encode(texts)
        batches = bucketed(inputs, self.tokenizer.pad_id, batch_size)
        rows = self.make(batches, verbose=verbose, description=self.verb, **options)
        if not details:
            rows = [[generation.text for generation in row] for row in rows]
        several = self.decoding_options(**_decoding(options)).num_results > 1
        return rows if several else [row[0] for row in rows]

    def score(self, sources, targets, verbose=False):
        """Log-probabilities of the tokens of each target, given its source.

        Returns:
            A float32 array `[tokens]` for each pair, special tokens included.
        """
        sources, targets = pair_data.read_pairs(sources, targets)
        batches = self.pair_batches(sources, targets)
        scores = [None] * len(sources)
        for index in progress(batches.num_batches, "score", verbose):
            inputs, labels = batches[index]
            is_real = labels != IGNORED
            log_probs = self.log_probs_graph(
                inputs["encoder_token_ids"],
                inputs["encoder_padding_mask"],
                np.where(is_real, labels, self.output_tokenizer.pad_id),
            ).numpy()
            for place, row in enumerate(batches.rows[index]):
                scores[row] = log_probs[place, is_real[place]]
        return scores

    def log_probs(self, token_ids, padding_mask, target_ids):
        """Of each of `target_ids` int32 `[batch, target]`, given the source and those before it."""
        start = tf.fill([tf.shape(target_ids)[0], 1], self.backbone.config.decoder_start_id)
        inputs = {
            **self.model_inputs({"token_ids": token_ids, "padding_mask": padding_mask}),
            "decoder_token_ids": tf.concat([start, target_ids[:, :-1]], axis=1),
        }
        logits = tf.cast(self(inputs, training=False), tf.float32)
        return log_probability(logits, target_ids)

    def scoring_signature(self, batch=None, length=None):
        target = None if length is None else self.decoding.max_tokens
        return {
            **self.tokenized_signature(batch, length),
            "target_ids": tf.TensorSpec([batch, target], tf.int32, "target_ids"),
        }

    def scored(self, inputs, made):
        """The first results, as targets."""
        target_ids = made["token_ids"][:, 0]
        is_real = np.arange(target_ids.shape[1]) < made["lengths"][:, :1]
        return {**inputs, "target_ids": target_ids}, is_real

    # Serving

    def tokenized(self, text, pair=None, max_length=None, padding="longest"):
        return super().tokenized(self._prompted(text), pair, max_length, padding)

    def export_metadata(self):
        return {**super().export_metadata(), "prompt": self.prompt}

    # Presets

    @classmethod
    def from_scratch(cls, x, y=None, config=SMALL, vocab_size=8000, max_length=256, **kwargs):
        """A new model, with a SentencePiece vocabulary learned from source and target texts.

        Args:
            x, y: pairs, in any form that `fit` takes but a data set.
            config: `lingxi.zoo.TransformerConfig` or `T5Config`, or the name of a size such as
                "transformer_base". Its vocabulary and special tokens are replaced. By default a
                small Marian, which `transformers` loads after `save_preset`.
            vocab_size: pieces, special tokens included.
            max_length: longest source and target in tokens.
            kwargs: of the task.

        Raises:
            ImportError: the extra `tokenizers` is not installed.
        """
        sources, targets = pair_data.read_pairs(x, y)
        model = learn_sentence_piece([*sources, *targets], vocab_size)
        if isinstance(config, str):
            config = next(a.presets[config] for a in cls.architectures if config in a.presets)
        tokenizer = text.SentencePieceTokenizer(model, max_length=max_length)
        if config.model_type == "marian":
            tokenizer = text.SentencePieceTokenizer(
                model, tokenizer.vocabulary, target_model=model, max_length=max_length
            )
        architecture = next(a for a in cls.architectures if isinstance(config, a.config_class))
        return cls(architecture(config_for(config, tokenizer)), tokenizer, **kwargs)

    @classmethod
    def from_preset(
        cls,
        name,
        vocabulary=None,
        prompt=None,
        max_length=None,
        decoding=None,
        stop=None,
        load_weights=True,
        dtype=None,
        **kwargs,
    ):
        """A pretrained encoder–decoder, a trained task, or a size with random weights.

        Args:
            name: a directory of Hugging Face (Marian, BART, T5) or one that `save_preset` wrote;
                or a size of `lingxi.zoo.Transformer` or `T5`, which takes its vocabulary size and
                special tokens from `vocabulary`.
            vocabulary: a directory with the files of a tokenizer, or a `lingxi.text.Tokenizer`,
                for a preset that has none.
            prompt: what every source begins with; by default what the directory says.
            max_length: by default what the directory says, else the model's longest.
            decoding: a dict of changes to what the directory's `generation_config.json` says.
            stop: strings at which an output ends.
            load_weights: False for random weights.
            dtype: a Keras dtype policy such as "mixed_bfloat16".
        """
        backbone, tokenizer, directory, config = cls.load_parts(
            name, vocabulary, load_weights, dtype
        )
        own = (config or {}).get("lingxi", {})
        own = own if own.get("task") == cls.__name__ else {}
        if directory is None:
            backbone = type(backbone)(config_for(backbone.config, tokenizer), dtype=dtype)
            options = cls.default_decoding()
        else:
            options = own.get("decoding") or generation_config.read_options(directory)
        if prompt is None:
            prompt = own.get("prompt", cls.default_prompt(backbone))
        return cls(
            backbone,
            tokenizer,
            prompt,
            max_length or own.get("max_length"),
            options | dict(decoding or {}),
            own.get("stop", ()) if stop is None else stop,
            pretrained=load_weights and directory is not None,
            dtype=dtype,
            **kwargs,
        )

    @classmethod
    def default_decoding(cls):
        """What is decoded how where nobody says it: a dict for `DecodingOptions`."""
        return {"beams": 4, "max_tokens": 128}

    @classmethod
    def default_prompt(cls, backbone):
        """What the sources of a pretrained backbone begin with."""
        return ""

    def save_preset(self, directory):
        """Write the model, its tokenizer and `generation_config.json`.

        `from_preset` and the Auto classes of `transformers` load the directory. It appears only
        when it is complete; an older model there is replaced.
        """
        start_id = self.backbone.config.decoder_start_id
        contents = generation_config.contents_of(self.decoding, start_id)
        preset.write(
            directory,
            self.preset_config(),
            self.checkpoint_table(),
            self.tokenizer,
            {generation_config.FILE_NAME: contents},
        )

    def preset_config(self):
        contents = super().preset_config()
        own = {
            "prompt": self.prompt,
            "decoding": dataclasses.asdict(self.decoding),
            "stop": list(self.stop),
        }
        return {**contents, "lingxi": {**contents["lingxi"], **own}}

    def checkpoint_table(self):
        return self.backbone.checkpoint_table()

    def get_config(self):
        return {
            **super().get_config(),
            "prompt": self.prompt,
            "label_smoothing": self.label_smoothing,
            "pretrained": self.pretrained,
        }


def config_for(config, tokenizer):
    """`config` with the vocabulary size and the special tokens of `tokenizer`."""
    changes = {
        "vocab_size": tokenizer.vocab_size,
        "pad_id": tokenizer.pad_id,
        "eos_id": tokenizer.eos_id,
        "decoder_start_id": tokenizer.pad_id,  # as of T5 and Marian
    }
    if config.model_type == "bart":
        changes["decoder_start_id"] = tokenizer.eos_id
    if isinstance(config, TransformerConfig):
        changes |= {"bos_id": tokenizer.bos_id, "decoder_vocab_size": None}
    return dataclasses.replace(config, **changes)


def learn_sentence_piece(texts, vocab_size):
    """A SentencePiece model, as bytes, with the special tokens of T5: "<pad>", "</s>", "<unk>".

    Raises:
        ImportError: the extra `tokenizers` is not installed.
        ValueError: there is too little text for so many pieces.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(
            "learning a vocabulary needs sentencepiece: pip install 'lingxi[tokenizers]'"
        ) from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(f"sentencepiece cannot learn from these texts: {error}") from error
    return model.getvalue()


def _is_raw_pairs(x):
    """Whether `x` is texts, files or a name, not something that Keras takes."""
    if isinstance(x, tuple) and len(x) == 2:
        x = x[0]
    return x is not None and text_data.is_raw(x) and not isinstance(x, TableStream)


def _listed(callbacks):
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def _decoding(options):
    return {name: value for name, value in options.items() if name not in ("stop", "seed")}
