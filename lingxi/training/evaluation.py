"""How good the texts are that a model writes: BLEU, chrF and ROUGE."""

import importlib

import keras

ROUGE = ("rouge1", "rouge2", "rougeL")


def text_scores(texts, references, metrics):
    """`{metric: score}` of texts beside one reference each, from 0 to 100.

    Args:
        metrics: "bleu" (sacreBLEU: 13a tokens, cased; for Chinese give "bleu-zh", and so on) and
            "chrf" of the whole corpus; "rouge1", "rouge2" and "rougeL", F1 averaged over the texts.

    Raises:
        ImportError: the extra `metrics` is not installed.
        ValueError: an unknown metric, or not as many texts as references.
    """
    check_metrics(metrics)
    texts, references = list(texts), list(references)
    if len(texts) != len(references):
        raise ValueError(f"got {len(texts)} texts, but {len(references)} references")
    scores = {}
    for metric in metrics:
        name, _, tokenization = metric.partition("-")
        if name == "bleu":
            bleu = _package("sacrebleu").BLEU(tokenize=tokenization or "13a")
            scores[metric] = bleu.corpus_score(texts, [references]).score
        elif name == "chrf":
            scores[metric] = _package("sacrebleu").CHRF().corpus_score(texts, [references]).score
    rouge = [metric for metric in metrics if metric in ROUGE]
    return scores | (_rouge(texts, references, rouge) if rouge else {})


def check_metrics(metrics):
    """Raise for unknown metrics and for missing packages, before hours of training."""
    for metric in metrics:
        if metric in ROUGE:
            _package("rouge_score")
        elif metric.partition("-")[0] in ("bleu", "chrf"):
            _package("sacrebleu")
        else:
            raise ValueError(f"unknown metric {metric!r}; there are bleu, chrf, {', '.join(ROUGE)}")


class TextEvaluation(keras.callbacks.Callback):
    """Writes the validation texts after every epoch and adds their scores to the logs.

    They are there as `val_bleu` and so on for the callbacks that come after this one, such as
    `keras.callbacks.EarlyStopping(monitor="val_bleu", mode="max")`. Under an optimizer with
    `use_ema=True` the averaged weights write them.

    Args:
        write: a function from a list of texts to a list of texts.
        sources: what it is given.
        references: what it should write, one text each.
        metrics: see `text_scores`.
    """

    def __init__(self, write, sources, references, metrics=("bleu",)):
        super().__init__()
        check_metrics(metrics)
        self.write = write
        self.sources = list(sources)
        self.references = list(references)
        self.metrics = metrics

    def on_epoch_end(self, epoch, logs=None):
        with averaged_weights(self.model):
            texts = self.write(self.sources)
        for name, score in text_scores(texts, self.references, self.metrics).items():
            logs[f"val_{name}"] = score


class averaged_weights:
    """A context in which a model has the averages of its weights that its optimizer keeps, if any.

    Keras itself gives a model the averages at the end of `fit`.
    """

    def __init__(self, model):
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self.pairs = []
        if getattr(optimizer, "use_ema", False) and optimizer.built:
            averages = optimizer._model_variables_moving_average
            self.pairs = list(zip(optimizer._trainable_variables, averages, strict=True))

    def __enter__(self):
        self.trained = [keras.ops.convert_to_numpy(variable) for variable, _ in self.pairs]
        for variable, average in self.pairs:
            variable.assign(average)

    def __exit__(self, *error):
        for (variable, _), value in zip(self.pairs, self.trained, strict=True):
            variable.assign(value)


def _rouge(texts, references, metrics):
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(metrics, use_stemmer=True)
    rows = [scorer.score(wanted, got) for wanted, got in zip(references, texts, strict=True)]
    count = max(len(rows), 1)
    return {name: 100.0 * sum(row[name].fmeasure for row in rows) / count for name in metrics}


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"scoring texts needs the package {name.replace('_', '-')}: "
            "pip install 'lingxi[metrics]'"
        ) from error
