"""Token classifiers give the logits of `transformers`, in both directions."""

import numpy as np
import pytest

from lingxi.tasks import TokenClassifier
from lingxi.text import WordPieceTokenizer

pytestmark = pytest.mark.parity

NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SIZES = {"hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 3}
CONFIGS = {
    "bert": ("BertConfig", SIZES | {"intermediate_size": 50}),
    "electra": ("ElectraConfig", SIZES | {"intermediate_size": 50, "embedding_size": 20}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 36, "n_layers": 3, "n_heads": 3, "hidden_dim": 50},
    ),
}


@pytest.fixture(params=CONFIGS)
def reference(request, transformers, vocabulary, tmp_path):
    """A random model of `transformers` with a vocabulary, and its directory."""
    import torch

    torch.manual_seed(0)
    kind, sizes = CONFIGS[request.param]
    labels = dict(enumerate(NAMES))
    config = getattr(transformers, kind)(
        vocab_size=len(vocabulary),
        max_position_embeddings=40,
        id2label=labels,
        label2id={name: i for i, name in labels.items()},
        initializer_range=0.2,
        **sizes,
    )
    model = transformers.AutoModelForTokenClassification.from_config(config).eval()
    model.save_pretrained(tmp_path / "theirs")
    WordPieceTokenizer(vocabulary, max_length=40).save(tmp_path / "theirs")
    return model, tmp_path / "theirs"


def logits_of(model, inputs):
    import torch

    names = {"token_ids": "input_ids", "padding_mask": "attention_mask"}
    if model.config.model_type != "distilbert":
        names["segment_ids"] = "token_type_ids"
    given = {names[k]: torch.tensor(v.numpy()).long() for k, v in inputs.items() if k in names}
    with torch.inference_mode():
        return model(**given).logits.numpy()


def test_token_classifier(reference, transformers, tmp_path, assert_near):
    theirs, directory = reference
    ours = TokenClassifier.from_preset(str(directory))
    assert ours.tags == NAMES
    inputs = ours.tokenizer(["the old river", "tea", "", "a good story of food and rice " * 9])
    real = inputs["padding_mask"].numpy()
    expected = logits_of(theirs, inputs)[real]
    found = ours(inputs, training=False).numpy()[real]
    assert_near("logits", found, expected)

    ours.save_preset(tmp_path / "ours")
    again = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "ours").eval()
    assert [again.config.id2label[i] for i in range(len(NAMES))] == NAMES
    np.testing.assert_allclose(logits_of(again, inputs)[real], expected, atol=1e-6)
