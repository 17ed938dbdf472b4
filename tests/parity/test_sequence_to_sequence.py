"""Translator and Summarizer against `transformers`: the same directories, the same texts."""

import io

import numpy as np
import pytest

from lingxi.tasks import Summarizer, Translator
from lingxi.text import ByteBpeTokenizer, SentencePieceTokenizer
from lingxi.text.byte_bpe import byte_characters

pytestmark = pytest.mark.parity

TEXTS = [
    "Two young, White males are outside near many bushes.",
    "A man.",
    "Several men in hard hats are operating a giant pulley system, and nobody looks at them.",
    "¿Qué? 100 %",
    "",
]
WORDS = " ".join(TEXTS).split()


def learned(seed):
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    random, model = np.random.default_rng(seed), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(random.permutation(WORDS)) for _ in range(50)),
        model_writer=model,
        vocab_size=60 + 10 * seed,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def marian():
    """Two models and one vocabulary, as Opus-MT has them."""
    source, target = learned(0), learned(1)
    names = {"pad": "<s>"}
    pieces = [SentencePieceTokenizer(model, special_tokens=names) for model in (source, target)]
    tokens = {token: None for side in pieces for token in side.vocabulary}
    tokens = ["</s>", "<unk>", *sorted(tokens.keys() - {"</s>", "<unk>"}), "<pad>"]
    return SentencePieceTokenizer(source, tokens, target)


def t5():
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs the extra `tokenizers`")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=model,
        vocab_size=70,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue(), num_sentinels=10)


def bart():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>"}
    names |= {"pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return ByteBpeTokenizer([*special, *byte_characters(), "<mask>"], [], 64, names)


SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 200,
}
T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
CASES = {
    # name: (tokenizer, reference's configuration and model, sizes, how it generates)
    "marian": (
        marian,
        "MarianConfig",
        "MarianMTModel",
        SIZES,
        {"num_beams": 3, "max_length": 20, "bad_words": True, "forced_eos": True},
    ),
    "bart": (
        bart,
        "BartConfig",
        "BartForConditionalGeneration",
        SIZES,
        {
            "num_beams": 2,
            "max_length": 24,
            "min_length": 6,
            "no_repeat_ngram_size": 3,
            "length_penalty": 2.0,
            "early_stopping": True,
            "forced_bos": True,
            "forced_eos": True,
        },
    ),
    "t5": (t5, "T5Config", "T5ForConditionalGeneration", T5_SIZES, {"max_length": 20}),
}


def save_reference(transformers, directory, name):
    """A reference model with random weights and its tokenizer, in `directory`."""
    import torch

    make, config_class, model_class, sizes, generates = CASES[name]
    tokenizer = make()
    generates = dict(generates)
    ids = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.eos_id}
    ids["decoder_start_token_id"] = tokenizer.eos_id if name == "bart" else tokenizer.pad_id
    ids["bos_token_id"] = tokenizer.bos_id
    if generates.pop("bad_words", False):
        generates["bad_words_ids"] = [[tokenizer.pad_id]]
    if generates.pop("forced_bos", False):
        generates["forced_bos_token_id"] = tokenizer.bos_id
    if generates.pop("forced_eos", False):
        generates["forced_eos_token_id"] = tokenizer.eos_id
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(
        vocab_size=tokenizer.vocab_size, **sizes, **ids, tie_word_embeddings=True
    )
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.generation_config = transformers.GenerationConfig(**ids, **generates)
    model.save_pretrained(directory)
    tokenizer.save(directory)


def load_reference(transformers, directory):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(directory)


def generate(reference, tokenizer, texts, **options):
    """What the reference makes of each text by itself: ids up to their end, and the text."""
    import torch

    made = []
    for text in texts:
        with torch.no_grad():
            ids = reference.generate(**tokenizer(text, return_tensors="pt"), **options)[0, 1:]
        made.append((ids.tolist(), tokenizer.decode(ids, skip_special_tokens=True)))
    return made


@pytest.fixture(scope="module", params=CASES)
def directory(request, transformers, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    save_reference(transformers, directory, request.param)
    return directory


@pytest.fixture(scope="module")
def translator(directory):
    return Translator.from_preset(directory)


@pytest.mark.parametrize("beams", [None, 1, 4])
def test_texts_are_those_of_the_reference(directory, translator, transformers, beams):
    options = {} if beams is None else {"num_beams": beams}
    wanted = generate(*load_reference(transformers, directory), TEXTS, **options)
    made = translator.translate(TEXTS, beams=beams, details=True)
    assert [list(answer.token_ids) for answer in made] == [ids for ids, _ in wanted]
    assert [answer.text for answer in made] == [text for _, text in wanted]


def test_the_reference_reads_what_was_saved(directory, translator, transformers, tmp_path):
    translator.save_preset(tmp_path / "saved")
    for options in ({}, {"num_beams": 1}, {"num_beams": 4}):
        wanted = generate(*load_reference(transformers, directory), TEXTS, **options)
        assert generate(*load_reference(transformers, tmp_path / "saved"), TEXTS, **options) == (
            wanted
        )
    again = Translator.from_preset(tmp_path / "saved")
    assert again.decoding == translator.decoding
    assert again.translate(TEXTS) == translator.translate(TEXTS)


def test_scores_are_those_of_the_reference(directory, translator, transformers, assert_near):
    import torch

    reference, tokenizer = load_reference(transformers, directory)
    targets = TEXTS[::-1]
    ours = translator.score(TEXTS, targets)
    for source, target, mine in zip(TEXTS, targets, ours, strict=True):
        labels = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = reference(**tokenizer(source, return_tensors="pt"), labels=labels).logits
        wanted = torch.log_softmax(logits[0], -1).gather(1, labels[0, :, None])[:, 0]
        assert_near("log-probabilities", mine, wanted.numpy(), 1e-4)


def test_the_loss_is_that_of_the_reference(directory, transformers, assert_near):
    import torch

    reference, tokenizer = load_reference(transformers, directory)
    translator = Translator.from_preset(directory, label_smoothing=0.0)
    batch = tokenizer(TEXTS, text_target=TEXTS[::-1], padding=True, return_tensors="pt")
    mask = tokenizer(text_target=TEXTS[::-1], padding=True, return_tensors="pt")["attention_mask"]
    batch["labels"] = batch["labels"].masked_fill(mask == 0, -100)
    with torch.no_grad():
        wanted = reference(**batch).loss.item()
    assert_near("loss", translator.evaluate(TEXTS, TEXTS[::-1], verbose=0)[0], wanted, 1e-4)


def test_a_summarizer_reads_t5_with_its_prompt(transformers, tmp_path):
    save_reference(transformers, tmp_path, "t5")
    wanted = generate(*load_reference(transformers, tmp_path), ["summarize: " + TEXTS[0]])
    summarizer = Summarizer.from_preset(tmp_path, decoding={"beams": 1})
    assert summarizer.summarize(TEXTS[0]) == wanted[0][1]
    summarizer.save_preset(tmp_path / "saved")
    assert Summarizer.from_preset(tmp_path / "saved").prompt == "summarize: "
    assert Summarizer.from_preset(tmp_path, prompt="").prompt == ""
