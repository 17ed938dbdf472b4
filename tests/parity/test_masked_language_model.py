"""Masked language models exchanged with `transformers`: the same logits and fillings."""

import keras
import numpy as np
import pytest

from lingxi.tasks import MaskedLanguageModel
from lingxi.text import WordPieceTokenizer
from lingxi.zoo import Bert, BertConfig
from tests.parity import models
from tests.tasks.roberta import roberta_classifier

pytestmark = pytest.mark.parity

TEXTS = ["what a lovely stream", "the film is not very good", "", "rice, tea and warm food!"]
KIN = {
    # model type: fields of our config that differ from BERT's
    "bert": {},
    "bert with relu": {"activation": "relu", "norm_epsilon": 1e-5},
    "distilbert": {"model_type": "distilbert", "num_segments": 0, "pooler": False},
    "electra": {"model_type": "electra", "embedding_dim": 16, "pooler": False},
    "electra as narrow as its embeddings": {"model_type": "electra", "pooler": False},
}
THEIRS = {
    "bert": ("BertConfig", "BertForMaskedLM", {}),
    "bert for pretraining": ("BertConfig", "BertForPreTraining", {}),
    "electra": ("ElectraConfig", "ElectraForMaskedLM", {"embedding_size": 16}),
    "distilbert": ("DistilBertConfig", "DistilBertForMaskedLM", {}),
}


def new_task(kind, vocabulary, **kwargs):
    """With random weights of every kind, also biases and norms."""
    if kind == "roberta":
        parts = roberta_classifier()
        backbone, tokenizer = parts.backbone, parts.tokenizer
    else:
        keras.utils.set_random_seed(5)
        sizes = {"hidden_dim": 32, "num_layers": 2, "num_heads": 4, "intermediate_dim": 48}
        config = {**sizes, "vocab_size": len(vocabulary), "max_length": 32, **KIN[kind]}
        backbone = Bert(BertConfig(**config))
        tokenizer = WordPieceTokenizer(vocabulary, max_length=32)
    task = MaskedLanguageModel(backbone, tokenizer, **kwargs)
    generator = np.random.default_rng(0)
    task.set_weights([w + 0.1 * generator.standard_normal(w.shape) for w in task.get_weights()])
    return task


def their_outputs(transformers, directory, texts, auto="AutoModelForMaskedLM"):
    """Outputs and where tokens are real."""
    import torch

    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = getattr(transformers, auto).from_pretrained(directory).eval()
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model, model(**inputs), inputs["attention_mask"].numpy().astype(bool)


@pytest.mark.parametrize("kind", [*KIN, "roberta"])
def test_the_reference_loads_what_lingxi_saves(
    kind, transformers, vocabulary, tmp_path, assert_near
):
    task = new_task(kind, vocabulary)
    task.save_preset(tmp_path)
    model, theirs, real = their_outputs(transformers, tmp_path, TEXTS)
    assert type(model).__name__ == task.preset_config()["architectures"][0]
    ours = task.predict(task.tokenizer(TEXTS), verbose=0)
    assert_near("logits", ours[real], theirs.logits.numpy()[real])


def test_both_heads_of_pretraining(transformers, vocabulary, tmp_path, assert_near):
    task = new_task("bert", vocabulary, next_sentence=True)
    task.save_preset(tmp_path)
    model, theirs, real = their_outputs(transformers, tmp_path, TEXTS, "AutoModelForPreTraining")
    assert type(model).__name__ == "BertForPreTraining"
    ours = task.predict(task.tokenizer(TEXTS), verbose=0)
    assert_near("logits", ours["tokens"][real], theirs.prediction_logits.numpy()[real])
    assert_near("next sentence", ours["next_sentence"], theirs.seq_relationship_logits.numpy())
    _, theirs, _ = their_outputs(transformers, tmp_path, TEXTS)  # the head for tokens alone
    assert_near("logits", ours["tokens"][real], theirs.logits.numpy()[real])


@pytest.mark.parametrize("kind", THEIRS)
def test_lingxi_loads_what_the_reference_saves(
    kind, transformers, vocabulary, tmp_path, assert_near
):
    import torch

    config, architecture, sizes = THEIRS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, config)(
        **{**models.SIZES, "vocab_size": len(vocabulary), **sizes}
    )
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    task = MaskedLanguageModel.from_preset(tmp_path)
    assert task.next_sentence == (architecture == "BertForPreTraining")
    inputs = task.tokenizer(TEXTS)
    real = inputs["padding_mask"].numpy()
    theirs = models.run_reference(model, {n: v.numpy() for n, v in inputs.items()})
    ours = task.predict(inputs, verbose=0)
    if task.next_sentence:
        assert_near("next sentence", ours["next_sentence"], theirs.seq_relationship_logits.numpy())
        ours, theirs = ours["tokens"], theirs.prediction_logits
    else:
        theirs = theirs.logits
    assert_near("logits", ours[real], theirs.numpy()[real])


def test_gradients(transformers, vocabulary, tmp_path, assert_near):
    """Of both losses, by masked positions here and by ignored labels there."""
    import tensorflow as tf
    import torch

    task = new_task("bert", vocabulary, next_sentence=True)
    task.save_preset(tmp_path)
    model = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    inputs = {n: v.numpy() for n, v in task.tokenizer(TEXTS[:2], TEXTS[:2]).items()}
    places = np.array([[1, 3], [2, 4]], "int32")
    labels, follows = np.array([[9, 40], [41, -100]], "int32"), np.array([0, 1], "int32")
    theirs = np.full(inputs["token_ids"].shape, -100)
    theirs[[[0], [1]], places] = labels
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    names["padding_mask"] = "attention_mask"
    model(
        **{names[n]: torch.tensor(v).long() for n, v in inputs.items()},
        labels=torch.tensor(theirs),
        next_sentence_label=torch.tensor(follows).long(),
    ).loss.backward()
    wanted = {n: p.grad.numpy() for n, p in model.named_parameters()}
    task.compile()

    def loss():
        outputs = task({**inputs, "masked_positions": places})
        targets = {"tokens": tf.constant(labels), "next_sentence": tf.constant(follows)}
        return task.compute_loss(y=targets, y_pred=outputs)

    no_influence = "attention.self.key.bias"
    models.compare_gradients(task, loss, wanted, assert_near, (no_influence,))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_fillings_are_those_of_the_references_pipeline(kind, transformers, vocabulary, tmp_path):
    task = new_task(kind, vocabulary)
    task.save_preset(tmp_path)
    mask = task.mask_token
    pipeline = transformers.pipeline(
        "fill-mask",
        str(tmp_path),
        device="cpu",
        top_k=5,
    )
    texts = [f"the {mask} was good", f"{mask} of the river, {mask}"]
    theirs = pipeline(texts)
    theirs = [theirs[0] if isinstance(theirs[0][0], list) else [theirs[0]], theirs[1]]
    for ours, wanted in zip(task.fill(texts), theirs, strict=True):
        for mine, other in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(
                [filling.score for filling in mine],
                [answer["score"] for answer in other],
                atol=1e-5,
            )
            tokens = [answer["token_str"].strip().removeprefix("##") for answer in other]
            assert [filling.token for filling in mine] == tokens
