"""Tasks that make text, in files: the same texts as the task, from raw text, by real runtimes."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import lingxi
from lingxi.export import VerificationError
from lingxi.export.components import sizes
from lingxi.export.stored_weights import in_int8
from lingxi.tasks import TextGenerator, Translator
from lingxi.text import ByteBpeTokenizer
from lingxi.zoo import Gpt, GptConfig, TransformerConfig

PROMPTS = ["the river", "", "tea 🍵 and", "a " * 60]
GREEDY = {"max_tokens": 8}
DECODINGS = {
    "greedy": GREEDY,
    "drawn": {**GREEDY, "temperature": 1.0, "top_k": 20, "num_results": 2},
    "beams": {**GREEDY, "beams": 3, "num_results": 2, "no_repeat_ngram": 2},
    "contrastive": {**GREEDY, "contrastive_alpha": 0.5, "top_k": 3},
}


@pytest.fixture(scope="module")
def generator(data_path):
    """A function: a `TextGenerator` with random weights and the real vocabulary of GPT-2."""
    tokenizer = ByteBpeTokenizer.from_directory(data_path("vocab/gpt2"), max_length=48)

    def make(decoding="greedy", stop=()):
        keras.utils.set_random_seed(3)
        config = GptConfig(
            hidden_dim=16, num_layers=1, num_heads=2, max_length=48, initializer_range=0.5
        )
        return TextGenerator(Gpt(config), tokenizer, decoding=DECODINGS[decoding], stop=stop)

    return make


@pytest.fixture(scope="module")
def translator():
    """A `Translator` with random weights and a SentencePiece vocabulary."""
    pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    keras.utils.set_random_seed(3)
    words = ["the", "a", "river", "tea", "rice", "stone", "cloud", "bird", "sees", "eats", "drinks"]
    texts = [" ".join(words[i % 11 :: 1 + i % 3]) for i in range(60)]
    config = TransformerConfig(
        model_type="marian",
        hidden_dim=16,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        intermediate_dim=24,
        positions="halves",
        bos_id=None,
    )
    task = Translator.from_scratch(
        texts, texts[::-1], config=config, vocab_size=50, max_length=24, decoding=GREEDY
    )
    random = np.random.default_rng(0)
    for weight in task.backbone.trainable_weights:
        weight.assign(weight.value + random.normal(0, 0.5, weight.shape))
    return task


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_saved_model_makes_the_texts_of_its_task(generator, decoding, tmp_path):
    task = generator(decoding)
    report = lingxi.export.saved_model(task, tmp_path / "model", examples=PROMPTS)
    assert report.agreement == 1.0
    artifact = lingxi.export.load(tmp_path / "model")
    seed = {"seed": 0} if decoding == "drawn" else {}
    with pytest.warns(UserWarning, match="cut on the left"):
        wanted = task.generate(PROMPTS, **seed)
    if decoding != "drawn":  # whose numbers depend on the room for tokens
        assert artifact.generate(PROMPTS) == wanted
    assert artifact.generate(PROMPTS[0]) == artifact.generate(PROMPTS[:1])[0]


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_tflite_file_makes_the_texts_of_its_task(generator, decoding, tmp_path):
    task = generator(decoding)
    path = tmp_path / "model.tflite"
    report = lingxi.export.tflite(
        task, path, input="ids", max_length=12, stepwise=True, examples=PROMPTS
    )
    assert report.agreement == 1.0
    artifact = lingxi.export.load(path)
    operations = {d["op_name"] for d in artifact.graph.interpreter._get_ops_details()}
    assert not {name for name in operations if name.startswith(("Flex", "CUSTOM"))}

    made = artifact.generate(PROMPTS[:3], details=True)
    first = [row[0] if artifact.metadata["num_results"] > 1 else row for row in made]
    for prompt, wanted in zip(PROMPTS, first, strict=False):
        assert "".join(artifact.stream(prompt)) == wanted.text or decoding == "drawn"
    assert "".join(artifact.stream(PROMPTS[0])) == first[0].text


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("decoding", ["drawn", "beams"])
def test_a_tflite_file_reads_several_prompts_a_call(generator, decoding, batch_size, tmp_path):
    """A seed gives other numbers to each prompt of a call: `export.tflite` compares them all."""
    task, path = generator(decoding), tmp_path / "model.tflite"
    report = lingxi.export.tflite(
        task,
        path,
        input="ids",
        max_length=12,
        batch_size=batch_size,
        stepwise=True,
        examples=PROMPTS[:3],
    )
    assert report.agreement == 1.0
    assert report.perplexity == pytest.approx(report.task_perplexity, rel=1e-4)
    artifact = lingxi.export.load(path)
    if decoding == "beams":
        assert "".join(artifact.stream("the river")) == artifact.generate("the river")[0]


@pytest.mark.parametrize("target", [None, "cpu"])
def test_options_of_a_saved_model(generator, target, tmp_path):
    lingxi.export.saved_model(generator(), tmp_path / "model", target=target, examples=PROMPTS)
    artifact = lingxi.export.load(tmp_path / "model")
    greedy = artifact.generate("the river", details=True).token_ids
    assert artifact.generate("the river", details=True, max_tokens=3).token_ids == greedy[:3]
    drawn = [artifact.generate("the river", temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert artifact.generate("the river", temperature=2.0, top_p=1e-6, seed=1) == (
        artifact.generate("the river")
    )
    with pytest.raises(ValueError, match=r"no options \['top_k'\]; it has \['max_tokens'"):
        artifact.generate("the river", top_k=3)


@pytest.mark.parametrize("target", [None, "cpu"])
def test_int8_weights_make_the_texts_of_a_task_with_these_weights(generator, target, tmp_path):
    task = generator()
    report = lingxi.export.saved_model(
        task, tmp_path / "model", precision="int8_weights", target=target, min_agreement=0
    )
    size = sizes(report.path)
    assert size["embeddings"] + size["layers"] < 0.33 * 4 * task.count_params()  # tied: one table
    for weight in task.backbone.weights:
        if len(weight.shape) > 1 and np.prod(weight.shape) >= 1024:
            values, scale = in_int8(weight)
            weight.assign(values * scale)
    artifact = lingxi.export.load(report.path)
    assert artifact.generate(PROMPTS[:3]) == task.generate(PROMPTS[:3])


def test_xla_is_not_for_what_makes_text(generator, tmp_path):
    with pytest.raises(ValueError, match="a TextGenerator cannot be: .*Choose target=None"):
        lingxi.export.saved_model(generator(), tmp_path / "model", target="gpu")


def test_a_server_needs_only_tensorflow(generator, tmp_path):
    task = generator()
    lingxi.export.saved_model(task, tmp_path / "model", examples=PROMPTS)
    code = """
import sys, tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
texts = tf.constant(["the river", "tea"])
made = model.signatures["serving_default"](text=texts)
print([text.decode() for text in made["text"].numpy()[:, 0]])
assert "lingxi" not in sys.modules
"""
    version = str(tmp_path / "model" / "1")
    result = subprocess.run([sys.executable, "-c", code, version], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == str(task.generate(["the river", "tea"]))


def test_a_text_ends_before_a_stop_string_in_every_format(generator, tmp_path):
    whole = generator().generate("the river")
    stop = whole[len(whole) // 2 :][:2]
    task = generator(stop=(stop,))
    wanted = task.generate("the river")
    assert wanted == whole[: whole.index(stop)]
    lingxi.export.saved_model(task, tmp_path / "model", examples=PROMPTS)
    lingxi.export.tflite(
        task, tmp_path / "m.tflite", input="ids", max_length=12, stepwise=True, examples=PROMPTS
    )
    for name in ("model", "m.tflite"):
        assert lingxi.export.load(tmp_path / name).generate("the river") == wanted
    assert "".join(lingxi.export.load(tmp_path / "m.tflite").stream("the river")) == wanted


@pytest.mark.parametrize(
    ("input", "batch_size"), [("text", 1), ("text", None), ("ids", 1), ("ids", 2)]
)
def test_a_translator_in_tflite(translator, input, batch_size, tmp_path):
    path = tmp_path / "model.tflite"
    texts = ["the bird sees", "tea", "a river drinks rice"]
    report = lingxi.export.tflite(
        translator, path, input=input, max_length=12, batch_size=batch_size, examples=texts
    )
    assert report.agreement == 1.0
    artifact = lingxi.export.load(path)
    assert artifact.translate(texts) == translator.translate(texts)
    if input == "text":  # strings in, strings out, without a tokenizer beside it
        assert artifact.graph.tokenizer is None
        assert "text" in artifact.graph.run(tf.constant(["tea"]))


def test_a_quantized_file_reports_how_many_texts_agree(translator, tmp_path):
    report = lingxi.export.tflite(
        translator, tmp_path / "model.tflite", quantize="int8", max_length=12, min_agreement=0.0
    )
    assert 0.0 <= report.agreement <= 1.0


def test_a_wrong_artifact_is_refused(generator, tmp_path, monkeypatch):
    task = generator()
    lingxi.export.saved_model(task, tmp_path / "model", examples=PROMPTS)
    weight = task.backbone.trainable_weights[0]
    weight.assign(-weight.value)
    with pytest.raises(VerificationError, match="are required"):
        lingxi.export.verify(task, tmp_path / "model", PROMPTS)


def test_text_in_tflite_needs_another_tokenizer(generator, tmp_path):
    with pytest.raises(ValueError, match='input="ids"'):
        lingxi.export.tflite(generator(), tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="stepwise needs"):
        lingxi.export.tflite(generator(), tmp_path / "model.tflite", stepwise=True)
    assert not list(tmp_path.iterdir())


def test_pairs_are_refused(generator, tmp_path):
    with pytest.raises(ValueError, match="takes single texts, not pairs"):
        lingxi.export.saved_model(generator(), tmp_path / "model", pairs=True)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_report_tells_the_perplexity_in_the_file(generator, quantize, tmp_path):
    task, path = generator(), tmp_path / "model.tflite"
    report = lingxi.export.tflite(
        task,
        path,
        quantize=quantize,
        input="ids",
        max_length=12,
        examples=PROMPTS[:3],
        min_agreement=0,
    )
    made = task.generate(PROMPTS[:3], details=True)
    bos = task.tokenizer.eos_id
    rows = [
        [*(ids or [bos]), *result.token_ids]
        for ids, result in zip(task.tokenizer.tokenize(PROMPTS[:3]).to_list(), made, strict=True)
    ]
    log_probs = []
    for row in rows:
        logits = task({"token_ids": np.array([row])})[0]
        log_probs += np.take_along_axis(
            tf.nn.log_softmax(logits)[:-1].numpy(), np.array(row)[1:, None], axis=1
        )[:, 0].tolist()
    assert report.task_perplexity == pytest.approx(np.exp(-np.mean(log_probs)), rel=1e-4)
    change = abs(report.perplexity / report.task_perplexity - 1)
    assert change < 1e-4 if quantize is None else 1e-4 < change < 0.5
    assert f"perplexity       {report.perplexity:.4g} (Keras" in str(report)
    assert lingxi.export.load(path).metadata["card"]["verification"]["perplexity"] == (
        report.perplexity
    )


def test_a_translation_has_a_perplexity_too(translator, tmp_path):
    texts = ["the river eats", "a bird"]
    report = lingxi.export.saved_model(translator, tmp_path / "model", examples=texts)
    assert report.perplexity == pytest.approx(report.task_perplexity, rel=1e-4)
    made = translator.translate(texts, details=True)
    own = np.concatenate([np.array(result.log_probs) for result in made])
    assert report.task_perplexity == pytest.approx(np.exp(-own.mean()), rel=1e-3)
