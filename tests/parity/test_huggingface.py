"""What `lingxi.export.huggingface` writes, loaded by the Auto classes of `transformers`."""

import keras
import numpy as np
import pytest

from lingxi import export
from lingxi.tasks import TextClassifier
from lingxi.zoo import Bert, Gpt, GptConfig
from lingxi.zoo.huggingface.classifier import CLASSIFIERS

pytestmark = pytest.mark.parity

numpy = keras.ops.convert_to_numpy
TEXTS = ["what a lovely stream", "the film is not very good", "", "rice, tea and warm food!"]
LABELS = ["negative", "neutral", "更好"]
IDS = np.array([[2, 7, 9, 4, 3], [2, 5, 3, 1, 1]], "int32")
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
KIN = {
    # model type: fields of our config that differ from BERT's
    "bert": {},
    "roberta": {"model_type": "roberta", "num_segments": 1, "position_offset": 2, "pad_id": 1},
    "distilbert": {"model_type": "distilbert", "num_segments": 0},
    "electra": {"model_type": "electra", "embedding_dim": 16},
}
POOLERLESS = {"pooler": False}


@pytest.fixture
def classifier(tiny_classifier):
    """A function: a classifier of a model type, every weight random."""

    def make(model_type, **kwargs):
        config = KIN[model_type] | ({} if model_type == "bert" else POOLERLESS)
        made = tiny_classifier(LABELS, config={**config, "num_layers": 2}, **kwargs)
        randomize(made)
        return made

    return make


def randomize(model):
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(random.normal(0, 0.2, weight.shape))


def their_logits(model, ids=IDS, mask=MASK):
    import torch

    with torch.no_grad():
        inputs = {"input_ids": torch.tensor(ids).long(), "attention_mask": torch.tensor(mask)}
        return model.eval()(**inputs).logits.numpy()


def our_logits(classifier, ids=IDS, mask=MASK):
    segments = np.zeros_like(ids)
    inputs = {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}
    return numpy(classifier(inputs))


@pytest.mark.parametrize("model_type", KIN)
def test_a_classifier_goes_there_and_back(
    model_type, classifier, transformers, tmp_path, assert_near
):
    made = classifier(model_type)
    export.huggingface(made, tmp_path / "ours")
    reference, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    assert type(reference).__name__ == CLASSIFIERS[model_type].architecture
    assert [reference.config.id2label[index] for index in range(3)] == LABELS
    theirs = their_logits(reference)
    assert_near("logits", our_logits(made), theirs)

    reference.save_pretrained(tmp_path / "theirs")
    made.tokenizer.save(tmp_path / "theirs")
    loaded = TextClassifier.from_preset(tmp_path / "theirs")
    assert loaded.labels == LABELS
    assert_near("logits of their file", our_logits(loaded), theirs)


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "electra"])
def test_raw_texts_give_the_same_logits(
    model_type, classifier, transformers, tmp_path, assert_near
):
    import torch

    made = classifier(model_type)
    export.huggingface(made, tmp_path / "ours")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = reference.eval()(**encoded).logits.numpy()
    assert_near("logits", made.predict(TEXTS, verbose=0), theirs)


@pytest.mark.parametrize("model_type", KIN)
def test_dropout_is_where_the_reference_has_it(model_type, classifier, transformers, tmp_path):
    made = classifier(model_type, dropout=0.25)
    export.huggingface(made, tmp_path)
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    head = reference if hasattr(reference, "dropout") else reference.classifier
    assert head.dropout.p == 0.25
    theirs, ours = [], []  # what is dropped: the input of the logits, and of the hidden layer too?
    head.dropout.register_forward_hook(lambda module, inputs, outputs: theirs.append(inputs[0]))
    their_logits(reference)
    made.head_dropout.call = lambda x, training=None: ours.append(x) or x
    our_logits(made)
    assert len(ours) == len(theirs) == 1 + CLASSIFIERS[model_type].drops_input
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(numpy(mine), other.numpy(), atol=1e-5)


@pytest.mark.parametrize("model_type", KIN)
def test_an_encoder(model_type, classifier, transformers, tmp_path, assert_near):
    import torch

    model = classifier(model_type).backbone
    assert isinstance(model, Bert)
    export.huggingface(model, tmp_path / "encoder")
    reference, report = transformers.AutoModel.from_pretrained(
        tmp_path / "encoder", output_loading_info=True
    )
    pooler = {"pooler.dense.weight", "pooler.dense.bias"}  # which AutoModel adds to any RoBERTa
    assert set(report["missing_keys"]) <= (pooler if model_type == "roberta" else set())
    assert not report["unexpected_keys"]
    with torch.no_grad():
        theirs = reference.eval()(torch.tensor(IDS).long(), attention_mask=torch.tensor(MASK))
    ours = model({"token_ids": IDS, "padding_mask": MASK})
    theirs = theirs.last_hidden_state.numpy()[MASK]
    assert_near("hidden states", numpy(ours["sequence_output"])[MASK], theirs)


GPTS = {
    "gpt2": {},
    "openai-gpt": {"norm_first": False},
    "gpt_neo": {
        "attention_windows": (None, 3),
        "scale_scores": False,
        "query_key_value_bias": False,
    },
}


@pytest.mark.parametrize("model_type", GPTS)
def test_a_language_model(model_type, transformers, tmp_path, assert_near):
    sizes = {"vocab_size": 11, "hidden_dim": 8, "num_layers": 2, "num_heads": 2, "max_length": 7}
    model = Gpt(GptConfig(model_type=model_type, **sizes, **GPTS[model_type]))
    randomize(model)
    export.huggingface(model, tmp_path / "gpt")
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "gpt")
    ours = numpy(model({"token_ids": IDS, "padding_mask": MASK})["logits"])
    assert_near("logits", ours[MASK], their_logits(reference)[MASK])


def test_their_classifier_with_a_pooler_that_nobody_reads(classifier, transformers, tmp_path):
    """Files of RoBERTa classifiers from before transformers 4 have one."""
    import safetensors.numpy

    made = classifier("roberta")
    made.save_preset(tmp_path / "old")
    path = tmp_path / "old" / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    tensors["roberta.pooler.dense.weight"] = np.ones((32, 32), "float32")
    tensors["roberta.pooler.dense.bias"] = np.ones(32, "float32")
    safetensors.numpy.save_file(tensors, path)
    loaded = TextClassifier.from_preset(tmp_path / "old")
    assert loaded.backbone.pooler is not None
    np.testing.assert_allclose(our_logits(loaded), our_logits(made), atol=1e-6)
    assert not any("pooler" in weight.path for weight in loaded.trainable_weights)
