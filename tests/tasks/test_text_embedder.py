"""`TextEmbedder`: embeddings, their comparison, and learning from pairs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.data import TableStream
from lingxi.tasks import Hit, TextEmbedder
from lingxi.training import AdamW, Checkpoints, InBatchNegatives
from tests.tasks.roberta import tiny_tokenizer
from tests.tasks.test_resume import Dies, assert_same

TEXTS = ["the film was good", "", "a warm river and rice", "bad", "the actor " * 30, "École 你好"]
WORDS = ("good", "river", "rice", "tea", "actor", "music", "night", "cold")


@pytest.fixture(scope="module")
def new_embedder(tiny_classifier):
    """A function: a new small embedder with the same random weights each time."""

    def make(config=(), dtype=None, **kwargs):
        parts = tiny_classifier(config=config, dtype=dtype)
        parts.backbone.trainable = True
        return TextEmbedder(parts.backbone, parts.tokenizer, **kwargs)

    return make


@pytest.fixture(scope="module")
def embedder(new_embedder):
    """Do not change it."""
    return new_embedder()


@pytest.fixture(scope="module")
def vectors(embedder):
    return embedder.embed(TEXTS)


@pytest.fixture(scope="module")
def pairs():
    """Two texts of different lengths with the same word in them."""
    return [
        (f"{'the ' * (i % 3)}{word}", f"it was {word}{' film' * (i % 4)}")
        for i, word in enumerate(WORDS * 2)
    ]


def sequence_output(embedder, text):
    """Outputs of the real tokens of one text, `[seq, dim]`."""
    return np.array(embedder.backbone(embedder.tokenizer([text]))["sequence_output"][0])


POOLED = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "cls": lambda x: x[0]}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", POOLED)
def test_an_embedding_is_pooled_over_the_real_tokens(new_embedder, pooling, normalize):
    """Each text alone, without padding, by the definition; the embedder has all in one batch."""
    embedder = new_embedder(pooling=pooling, normalize=normalize)
    found = embedder.embed(TEXTS)
    assert found.dtype == np.float32
    for text, vector in zip(TEXTS, found, strict=True):
        wanted = POOLED[pooling](sequence_output(embedder, text))
        if normalize:
            wanted = wanted / np.linalg.norm(wanted)
        np.testing.assert_allclose(vector, wanted, atol=2e-6)


def test_one_text_has_one_vector_and_no_text_has_none(embedder, vectors):
    np.testing.assert_allclose(embedder.embed(TEXTS[0]), vectors[0], atol=1e-6)
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_the_order_of_the_texts_is_kept(embedder, vectors):
    found = embedder.embed(TEXTS * 8, batch_size=5)
    np.testing.assert_allclose(found, np.tile(vectors, (8, 1)), atol=1e-6)


def test_predict_gives_the_same_numbers(embedder, vectors):
    np.testing.assert_allclose(embedder.predict(TEXTS, verbose=0), vectors, atol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS)
    np.testing.assert_allclose(embedder.predict(dataset, verbose=0), vectors, atol=1e-6)


def test_a_prompt_is_the_beginning_of_every_text(new_embedder, vectors):
    prompted = new_embedder(prompt="the film ", prompts={"query": "who was "})
    texts = ["was good", "rice"]
    wanted = [f"the film {text}" for text in texts]
    plain = new_embedder().embed
    np.testing.assert_allclose(prompted.embed(texts), plain(wanted), atol=1e-6)
    wanted = [f"who was {text}" for text in texts]
    np.testing.assert_allclose(prompted.embed(texts, "query"), plain(wanted), atol=1e-6)
    served = prompted.serving_function(tf.constant(["was good", "rice"]))["embedding"]
    np.testing.assert_allclose(served, prompted.embed(texts), atol=1e-6)


def test_an_unknown_prompt_is_refused(embedder, new_embedder):
    with pytest.raises(ValueError, match="no prompt 'query'; this embedder has none"):
        embedder.embed(TEXTS, "query")
    with pytest.raises(ValueError, match=r"this embedder has \['passage'\]"):
        new_embedder(prompts={"passage": "x"}).embed(TEXTS, "query")


@pytest.mark.parametrize("x", [[("a", "b")], (["a"], ["b"]), [("a", "b", "c")]])
def test_pairs_have_no_embedding(embedder, x):
    with pytest.raises(ValueError, match="an embedding is of one text"):
        embedder.embed(x)


def test_an_unknown_pooling_is_refused(new_embedder):
    with pytest.raises(ValueError, match="pooling must be one of .* got 'sum'"):
        new_embedder(pooling="sum")


# Similarity and search


def test_similarity_is_the_cosine(new_embedder):
    embedder = new_embedder(normalize=False)
    a, b = embedder.embed(TEXTS[:2]), embedder.embed(TEXTS[2:])
    wanted = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(embedder.similarity(TEXTS[:2], TEXTS[2:]), wanted, atol=1e-6)
    np.testing.assert_allclose(embedder.similarity(a, TEXTS[2:]), wanted, atol=1e-6)
    np.testing.assert_allclose(embedder.similarity(TEXTS[0], b), wanted[0], atol=1e-6)
    assert embedder.similarity("bad", "bad") == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("block", [1, 3, 7, 1000])
@pytest.mark.parametrize("top_k", [1, 5, 40, 100])
def test_search_is_the_full_sort_with_the_first_of_equals_first(embedder, block, top_k):
    random = np.random.default_rng(0)
    queries = random.integers(-2, 3, (6, 3)).astype("float32")
    corpus = random.integers(-2, 3, (40, 3)).astype("float32")  # many are equal
    scores = np.round(embedder.similarity(queries, corpus), 5)
    found = embedder.search(queries, corpus, top_k, block)
    for row, hits in zip(scores, found, strict=True):
        best = np.argsort(-row, kind="stable")[:top_k]
        assert [round(hit.score, 4) for hit in hits] == pytest.approx(row[best], abs=1e-4)
        assert len({hit.index for hit in hits}) == min(top_k, 40)
        np.testing.assert_allclose(row[[hit.index for hit in hits]], row[best], atol=1e-5)


def test_of_equal_texts_the_first_is_found_first(embedder):
    corpus = np.eye(3, dtype="float32")[[0, 1, 1, 2, 1]]
    hits = embedder.search(np.array([0, 1, 0], "float32"), corpus, 3, block=2)
    assert [hit.index for hit in hits] == [1, 2, 4]


def test_hits_have_the_text_where_the_corpus_has_texts(embedder, vectors):
    (hits, other) = embedder.search(["bad", "a warm river"], TEXTS, top_k=2)
    assert hits[0] == Hit(3, pytest.approx(1.0, abs=1e-6), "bad")
    assert len(other) == 2
    assert embedder.search("bad", TEXTS, top_k=1) == [hits[0]]
    assert embedder.search("bad", vectors, top_k=1) == [Hit(3, pytest.approx(1.0, abs=1e-6))]
    assert [hit.index for hit in embedder.search(vectors[3], vectors, 2)] == [h.index for h in hits]


def test_an_empty_corpus_has_no_hits(embedder):
    assert embedder.search(["bad", "good"], []) == [[], []]
    assert embedder.search([], TEXTS) == []


def test_search_uses_the_prompts_for_queries_and_for_the_corpus(new_embedder):
    prompted = new_embedder(prompts={"query": "who was ", "passage": "the film "})
    plain = new_embedder()
    hits = prompted.search("good", ["bad", "rice"], top_k=2)
    wanted = plain.search("who was good", ["the film bad", "the film rice"], top_k=2)
    assert [(h.index, h.score) for h in hits] == [
        (h.index, pytest.approx(h.score, abs=1e-6)) for h in wanted
    ]
    assert {hit.text for hit in hits} == {"bad", "rice"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["b"], 0), "top_k and block must be at least 1, got 0"),
        ((["a"], np.zeros((2, 3))), r"same dim, got embeddings of \[1, 32\] and \[2, 3\]"),
        ((np.zeros((1, 3)), np.zeros(3)), "must be texts or embeddings"),
    ],
)
def test_what_cannot_be_searched_is_refused(embedder, arguments, message):
    with pytest.raises(ValueError, match=message):
        embedder.search(*arguments)


# Training


def test_pairs_learn_to_find_each_other(new_embedder, pairs):
    embedder = new_embedder()
    before = embedder.evaluate(pairs, verbose=0, return_dict=True)
    history = embedder.fit(
        pairs, epochs=15, batch_size=8, learning_rate=3e-3, seed=0, validation_data=pairs, verbose=0
    ).history
    after = embedder.evaluate(pairs, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] / 2
    assert after["accuracy"] > 0.9 > before["accuracy"]
    assert history["val_accuracy"][-1] == pytest.approx(after["accuracy"])


def test_similarities_are_learned(new_embedder):
    pairs = [(f"the {a}", f"it was {b}") for a in WORDS[:4] for b in WORDS[:4]]
    scores = [1.0 if a.split()[1] == b.split()[2] else -0.5 for a, b in pairs]
    embedder = new_embedder()
    before = embedder.evaluate(pairs, scores, verbose=0, return_dict=True)
    embedder.fit(pairs, scores, epochs=30, batch_size=8, learning_rate=3e-3, seed=0, verbose=0)
    after = embedder.evaluate(pairs, scores, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] / 3
    assert after["pearson"] > 0.8
    cosines = [embedder.similarity(a, b) for a, b in pairs]
    assert np.corrcoef(cosines, scores)[0, 1] == pytest.approx(after["pearson"], abs=1e-3)


def columns_of(examples):
    """A tuple of lists."""
    return tuple(map(list, zip(*examples, strict=True)))


def loss_of(embedder, *data, **kwargs):
    return embedder.evaluate(*data, verbose=0, return_dict=True, **kwargs)["loss"]


def test_every_form_of_pairs_is_the_same_data(embedder, pairs):
    wanted = loss_of(embedder, pairs, None, 16)
    columns = columns_of(pairs)
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    forms = [columns, np.array(pairs), [list(pair) for pair in pairs], dataset, dataset.batch(16)]
    for form in forms:
        assert loss_of(embedder, form, None, 16) == pytest.approx(wanted, rel=1e-4)
    wanted = loss_of(embedder, pairs, scores())
    dataset = tf.data.Dataset.from_tensor_slices((columns, scores()))
    for data in ((columns, list(scores())), (dataset,), (dataset.batch(3),)):
        assert loss_of(embedder, *data) == pytest.approx(wanted, rel=1e-4)


SCORED = {"label_column": "score", "label_kind": "number"}


@pytest.fixture
def stream(pairs, tmp_path):
    """A function: the pairs as a file that is read while training, and arguments of that."""
    path = tmp_path / "pairs.csv"
    rows = (f"{a},{b},{score}\n" for (a, b), score in zip(pairs, scores(), strict=True))
    path.write_text("text,second,score\n" + "".join(rows))

    def open_stream(**options):
        return TableStream(path, **{"pair_column": "second", "label_column": None, **options})

    return open_stream


def scores():
    return np.linspace(-1, 1, 16).astype("float32")


def test_a_file_is_the_same_data_with_similarities_and_without(embedder, pairs, stream):
    wanted = loss_of(embedder, pairs, None, 16)
    assert loss_of(embedder, stream(), None, 16) == pytest.approx(wanted, rel=1e-4)
    wanted = loss_of(embedder, pairs, scores())
    assert loss_of(embedder, stream(**SCORED), None, 3) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("columns", "metric"), [({}, "accuracy"), (SCORED, "pearson")])
def test_a_file_trains_and_validates(new_embedder, stream, columns, metric):
    embedder = new_embedder()
    data = stream(**columns, buffer=5)
    before = embedder.evaluate(data, verbose=0, return_dict=True)
    options = {"learning_rate": 3e-3, "batch_size": 8, "seed": 0, "verbose": 0}
    history = embedder.fit(data, validation_data=data, epochs=15, **options).history
    after = embedder.evaluate(data, batch_size=8, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] / 1.5
    assert history[f"val_{metric}"][-1] == pytest.approx(after[metric], abs=1e-4)


def test_a_training_on_a_file_goes_on_to_the_last_bit(new_embedder, stream, tmp_path):
    def fit(directory, callbacks=()):
        embedder = new_embedder(config={"dropout": 0.2})
        embedder.compile(AdamW(1e-3), InBatchNegatives(), run_eagerly=True)
        options = {"epochs": 2, "batch_size": 4, "seed": 1, "verbose": 0}
        resume = Checkpoints(tmp_path / directory, every_steps=1)
        embedder.fit(stream(buffer=5), resume=resume, callbacks=list(callbacks), **options)
        return embedder

    whole = fit("whole")
    with pytest.raises(RuntimeError, match="the power went off"):
        fit("broken", callbacks=[Dies(6)])
    keras.utils.set_random_seed(99)
    assert_same(fit("broken"), whole)


def test_a_file_that_has_no_pairs_or_names_for_numbers_is_refused(embedder, stream):
    with pytest.raises(ValueError, match=r"pair_column is None: .*TableStream\(…, pair_column=…\)"):
        embedder.evaluate(stream(pair_column=None), verbose=0)
    with pytest.raises(ValueError, match="labels in 'score' are read as 'name': pass TableStream"):
        embedder.evaluate(stream(label_column="score"), verbose=0)


def test_negatives_make_the_task_harder(embedder, pairs):
    triples = [(a, b, "music and night") for a, b in pairs]
    loss = loss_of(embedder, triples, None, 16)
    assert loss > loss_of(embedder, pairs, None, 16)
    dataset = tf.data.Dataset.from_tensor_slices(columns_of(triples))
    assert loss_of(embedder, dataset.batch(16)) == pytest.approx(loss, rel=1e-4)
    assert loss_of(embedder, columns_of(triples), None, 16) == pytest.approx(loss, rel=1e-4)


def test_equal_texts_of_a_batch_are_no_wrong_answers(embedder):
    """Two pairs with the same second text have nothing to distinguish."""
    pairs = [("good film", "rice"), ("bad tea", "rice")]
    assert loss_of(embedder, pairs) == pytest.approx(0.0, abs=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(columns_of(pairs))
    assert loss_of(embedder, dataset) == pytest.approx(0.0, abs=1e-6)
    assert loss_of(embedder, [("good film", "rice"), ("bad tea", "tea")]) > 1e-3


def test_sample_weights_leave_pairs_out(new_embedder):
    pairs, scores = [("good", "bad"), ("rice", "tea")], [1.0, -1.0]
    embedder = new_embedder()
    weighted = loss_of(embedder, pairs, scores, sample_weight=[2.0, 0.0])
    assert weighted == pytest.approx(loss_of(embedder, pairs[:1], scores[:1]), rel=1e-5)


def test_a_loss_of_ones_own_is_kept(new_embedder, pairs):
    embedder = new_embedder()
    embedder.compile(AdamW(1e-3), InBatchNegatives(1.0), run_eagerly=True)
    embedder.fit(pairs, verbose=0)
    assert embedder.loss.temperature == 1.0


def test_the_temperature_of_fit_is_that_of_the_loss(new_embedder, pairs):
    embedder = new_embedder()
    embedder.fit(pairs, temperature=0.5, verbose=0)
    assert embedder.loss.temperature == 0.5


def test_the_pooler_does_not_learn(new_embedder, pairs):
    embedder = new_embedder()
    before = embedder.backbone.pooler.get_weights()
    embedder.fit(pairs, verbose=0)
    for old, new in zip(before, embedder.backbone.pooler.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (["a", "b"], None, "got 1 texts an example"),
        (["a", "b"], [1.0, 0.0], "similarities are of pairs"),
        ([("a", "b", "c")], [1.0], "similarities are of pairs"),
        ([("a", "b")], [5.0], r"one number in \[-1, 1\]"),
        ([("a", "b")], ["same"], r"one number in \[-1, 1\]"),
        ([("a", "b")], [float("nan")], r"one number in \[-1, 1\]"),
        ([("a", "b")], [1.0, 0.5], "got 1 texts, but 2 similarities"),
        ((["a", "b"], ["c"]), None, "got 2 and 1 texts"),
        ([], None, "got no texts"),
    ],
)
def test_what_teaches_nothing_is_refused(embedder, x, y, message):
    with pytest.raises(ValueError, match=message):
        embedder.evaluate(x, y, verbose=0)


def test_mixed_examples_are_refused(embedder):
    with pytest.raises(TypeError, match="item 0 has 2 texts, but item 1 is 'c'"):
        embedder.evaluate([("a", "b"), "c"], verbose=0)


# Presets and files


def same_embeddings(a, b):
    np.testing.assert_allclose(a.embed(TEXTS), b.embed(TEXTS), atol=1e-6)
    for name in ("pooling", "normalize", "prompt", "max_length"):
        assert getattr(a, name) == getattr(b, name)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling": "max", "normalize": False, "max_length": 9},
        {"pooling": "cls", "prompt": "the ", "prompts": {"query": "who ", "passage": "the "}},
        {"prompt": "what "},
    ],
    ids=lambda settings: "-".join(map(str, settings)) or "default",
)
def test_a_saved_preset_comes_back(new_embedder, tmp_path, settings):
    embedder = new_embedder(**settings)
    embedder.save_preset(tmp_path / "preset")
    again = TextEmbedder.from_preset(tmp_path / "preset")
    same_embeddings(again, embedder)
    assert again.prompts.items() >= embedder.prompts.items()


def test_a_keras_file_comes_back(new_embedder, tmp_path):
    embedder = new_embedder(pooling="max", prompt="the ", prompts={"query": "who "}, max_length=9)
    embedder.save(tmp_path / "embedder.keras")
    again = keras.saving.load_model(tmp_path / "embedder.keras")
    same_embeddings(again, embedder)
    assert again.prompts == embedder.prompts


def test_a_plain_encoder_gets_mean_pooling(new_embedder, tmp_path):
    embedder = new_embedder()
    embedder.backbone.save_preset(tmp_path)
    embedder.tokenizer.save(tmp_path)
    same_embeddings(TextEmbedder.from_preset(tmp_path), embedder)


def test_arguments_go_before_what_the_directory_says(new_embedder, tmp_path):
    new_embedder(pooling="max").save_preset(tmp_path / "preset")
    changed = {"pooling": "cls", "normalize": False, "prompt": "the ", "max_length": 7}
    same_embeddings(
        TextEmbedder.from_preset(tmp_path / "preset", **changed), new_embedder(**changed)
    )


def test_a_size_gets_random_weights(vocabulary, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    embedder = TextEmbedder.from_preset("bert_tiny", vocabulary=tmp_path / "vocab.txt")
    assert embedder.embed("good").shape == (128,)


def change(path, **contents):
    path.write_text(json.dumps(json.loads(path.read_text()) | contents))


POOLING = "1_Pooling/config.json"


@pytest.mark.parametrize(
    ("name", "contents", "pooling"),
    [
        (POOLING, {"pooling_mode": "max"}, "max"),
        (POOLING, {"pooling_mode": ["cls"]}, "cls"),
        (POOLING, {"pooling_mode_mean_tokens": False}, "mean"),
    ],
)
def test_other_spellings_of_the_pooling(new_embedder, tmp_path, name, contents, pooling):
    new_embedder().save_preset(tmp_path / "preset")
    change(tmp_path / "preset" / name, **contents)
    assert TextEmbedder.from_preset(tmp_path / "preset").pooling == pooling


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        (POOLING, {"pooling_mode": "lasttoken"}, "has the pooling lasttoken; supported: one of"),
        (POOLING, {"pooling_mode_cls_token": True}, "has the pooling cls and mean"),
        (
            POOLING,
            {"pooling_mode_mean_tokens": False, "pooling_mode_weightedmean_tokens": True},
            "has the pooling pooling_mode_weightedmean_tokens",
        ),
        (POOLING, {"include_prompt": False}, "leaves prompts out"),
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "a SparseEncoder"),
    ],
)
def test_what_lingxi_would_compute_otherwise_is_refused(
    new_embedder, tmp_path, name, contents, message
):
    new_embedder().save_preset(tmp_path / "preset")
    change(tmp_path / "preset" / name, **contents)
    with pytest.raises(ValueError, match=message):
        TextEmbedder.from_preset(tmp_path / "preset")


def test_other_modules_are_refused(new_embedder, tmp_path):
    new_embedder().save_preset(tmp_path / "preset")
    path = tmp_path / "preset" / "modules.json"
    modules = json.loads(path.read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    path.write_text(json.dumps([*modules, dense]))
    with pytest.raises(ValueError, match="the modules Transformer, Pooling, Normalize, Dense"):
        TextEmbedder.from_preset(tmp_path / "preset")


def test_the_encoder_may_be_in_a_folder_of_its_own(new_embedder, tmp_path):
    """As the first versions of `sentence_transformers` wrote it."""
    embedder = new_embedder(max_length=9)
    embedder.save_preset(tmp_path / "preset")
    folder = tmp_path / "preset" / "0_Transformer"
    folder.mkdir()
    for path in list((tmp_path / "preset").iterdir()):
        if path.is_file() and path.name not in (
            "modules.json",
            "config_sentence_transformers.json",
        ):
            path.rename(folder / path.name)
    path = tmp_path / "preset" / "modules.json"
    modules = json.loads(path.read_text())
    modules[0]["path"] = folder.name
    path.write_text(json.dumps(modules))
    same_embeddings(TextEmbedder.from_preset(tmp_path / "preset"), embedder)


def test_nothing_is_written_over_what_is_no_model(embedder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no model to replace"):
        embedder.save_preset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_other_architectures_embed_too(new_embedder):
    kin = {"model_type": "distilbert", "num_segments": 0, "pooler": False}
    assert new_embedder(config=kin).embed(TEXTS).shape == (len(TEXTS), 32)
    tokenizer = tiny_tokenizer()
    config = {"vocab_size": tokenizer.vocab_size, "model_type": "roberta", "position_offset": 2}
    backbone = new_embedder(config=config | {"pad_id": tokenizer.pad_id}).backbone
    embedder = TextEmbedder(backbone, tokenizer)
    alone = np.stack([embedder.embed(text) for text in TEXTS])
    np.testing.assert_allclose(embedder.embed(TEXTS), alone, atol=2e-6)
