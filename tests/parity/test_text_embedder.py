"""Embeddings beside those of `sentence_transformers`, in both directions."""

import numpy as np
import pytest

from lingxi.tasks import TextEmbedder
from lingxi.training import InBatchNegatives

pytestmark = pytest.mark.parity

TEXTS = [
    "what a lovely stream",
    "",
    "the film is not very good " * 20,
    "naïve 你好 👍",
    "rice, tea!",
]


@pytest.fixture(scope="session")
def reference(transformers):
    """A function: the `SentenceTransformer` in a directory."""
    library = pytest.importorskip("sentence_transformers")

    def load(directory):
        return library.SentenceTransformer(str(directory), device="cpu")

    return load


def test_minilm_on_real_sentences(reference, minilm_dir, data_path, assert_near):
    lines = data_path("sst2/train.tsv").read_text("utf-8").splitlines()[:1000]
    sentences = [line.rsplit("\t", 1)[0] for line in lines]
    assert len(sentences) == 1000
    ours = TextEmbedder.from_preset("minilm_l6_en_uncased").embed(sentences, verbose=False)
    assert_near("embeddings", ours, reference(minilm_dir).encode(sentences))


def test_minilm_cuts_long_texts_where_the_reference_does(reference, minilm_dir, assert_near):
    texts = ["the film was good " * 200, "short"]
    ours = TextEmbedder.from_preset("minilm_l6_en_uncased").embed(texts)
    assert_near("embeddings", ours, reference(minilm_dir).encode(texts))


@pytest.fixture
def embedder(tiny_classifier):
    """A function: a small embedder."""

    def make(**kwargs):
        parts = tiny_classifier(config={"num_layers": 2})
        return TextEmbedder(parts.backbone, parts.tokenizer, **kwargs)

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling": "cls", "normalize": False},
        {"pooling": "max", "max_length": 9},
        {"prompt": "who was ", "prompts": {"query": "what is "}},
    ],
    ids=["default", "cls", "max", "prompts"],
)
def test_the_reference_loads_what_lingxi_saves(
    reference, transformers, embedder, tmp_path, assert_near, settings
):
    ours = embedder(**settings)
    ours.save_preset(tmp_path / "preset")
    theirs = reference(tmp_path / "preset")
    assert_near("embeddings", ours.embed(TEXTS), theirs.encode(TEXTS))
    assert_near(
        "similarity", ours.similarity(TEXTS, TEXTS), theirs.similarity(*2 * [theirs.encode(TEXTS)])
    )
    if ours.prompts:
        assert_near("query", ours.embed(TEXTS, "query"), theirs.encode(TEXTS, prompt_name="query"))
    assert type(transformers.AutoModel.from_pretrained(tmp_path / "preset")).__name__ == "BertModel"


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_lingxi_loads_what_the_reference_saves(reference, embedder, tmp_path, assert_near, pooling):
    """In the spelling of today's version, with its length and prompts."""
    embedder(pooling=pooling, max_length=20, prompts={"query": "who "}).save_preset(tmp_path / "a")
    theirs = reference(tmp_path / "a")
    theirs.default_prompt_name = "query"
    theirs.max_seq_length = 11
    theirs.save(str(tmp_path / "b"))
    ours = TextEmbedder.from_preset(tmp_path / "b")
    assert (ours.pooling, ours.max_length, ours.prompt) == (pooling, 11, "who ")
    assert_near("embeddings", ours.embed(TEXTS), theirs.encode(TEXTS))


@pytest.mark.parametrize("texts", [2, 3])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_of_in_batch_negatives(reference, symmetric, texts, assert_near):
    import torch
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    x = np.random.default_rng(texts).normal(size=(6, texts, 8)).astype("float32")
    numbers = np.arange(6 * texts).reshape(6, texts)
    ours = float(InBatchNegatives(0.05, symmetric)(numbers, x))
    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    theirs = MultipleNegativesRankingLoss(
        None, scale=20.0, directions=directions, partition_mode="per_direction"
    )
    tensors = [torch.tensor(x[:, side]) for side in range(texts)]
    assert_near("loss", ours, theirs.compute_loss_from_embeddings(tensors, None).item())
