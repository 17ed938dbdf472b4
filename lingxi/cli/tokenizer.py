"""Learn a vocabulary from text files: lingxi tokenizer train.

The output directory holds the tokenizer's files, as lingxi.text.from_directory and transformers
load them. The files are plain text in UTF-8, one sentence or paragraph a line.
"""

import importlib
import io
import json
import pathlib

from absl import app, flags

from lingxi.cli.command import check_output, new_flags, note
from lingxi.cli.quiet import quiet_tensorflow
from lingxi.files import atomic_path

KINDS = ("wordpiece", "bpe", "sentencepiece")
NUM_BYTES = 256
SPECIAL_TOKENS = {
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "bpe": ("<|endoftext|>",),
    "sentencepiece": ("<pad>", "</s>", "<unk>"),
}

FLAGS = new_flags()
flags.DEFINE_enum("kind", None, KINDS, "Of BERT, of GPT-2, or of T5.", flag_values=FLAGS)
flags.DEFINE_integer(
    "vocab_size",
    None,
    "At most `N` tokens, special ones included.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string("output", None, "`DIR` to write the tokenizer to.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "overwrite", False, "Replace the tokenizer in --output if there is one.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "lowercase", True, "For wordpiece: make all text lower case.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "max_length", 512, "The longest sequence, `N` tokens.", lower_bound=3, flag_values=FLAGS
)
flags.DEFINE_integer(
    "sentinels",
    0,
    "For sentencepiece: `N` tokens <extra_id_0> … for T5's pretraining.",
    lower_bound=0,
    flag_values=FLAGS,
)
REQUIRED = ("kind", "vocab_size", "output")
USAGE = "train --kind KIND --vocab_size N --output DIR FILE…"
EXAMPLES = """
    lingxi tokenizer train --kind=bpe --vocab_size=8000 --output=runs/vocabulary books/*.txt
"""


def run(arguments):
    if not arguments or arguments[0] != "train":
        raise app.UsageError(f"tokenizer knows one verb, train; got {arguments[:1]}")
    paths = [pathlib.Path(path).expanduser() for path in arguments[1:]]
    if not paths:
        raise app.UsageError("tokenizer train needs the text FILES to learn from")
    output = pathlib.Path(FLAGS.output).expanduser().absolute()
    check_output(output, FLAGS.overwrite, "tokenizer_config.json", "tokenizer")
    num_lines = sum(_check_text(path) for path in paths)
    note(f"learning at most {FLAGS.vocab_size:,} tokens from {num_lines:,} lines")
    train = {"wordpiece": _wordpiece, "bpe": _bpe, "sentencepiece": _sentencepiece}[FLAGS.kind]
    make = train(paths)
    with quiet_tensorflow(FLAGS.debug):
        tokenizer = make()
    with atomic_path(output) as temporary:
        tokenizer.save(temporary)
    print(f"Saved {tokenizer.vocab_size:,} tokens to {FLAGS.output}")


def _check_text(path):
    """How many lines a file has; raises an error that names it unless it is text in UTF-8."""
    num_lines = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                num_lines += bool(line.decode("utf-8-sig").strip())
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from error
    if not num_lines:
        raise ValueError(f"{path} has no text")
    return num_lines


def _check_vocab_size(num_least, what):
    if FLAGS.vocab_size < num_least:
        raise ValueError(
            f"--vocab_size {FLAGS.vocab_size} is too small: {what} are {num_least} tokens already"
        )


def _import(name):
    """The library that learns vocabularies, or an error that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"learning a {FLAGS.kind} vocabulary needs {name}: pip install 'lingxi[tokenizers]'"
        ) from error


def _wordpiece(paths):
    _import("tokenizers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = list(SPECIAL_TOKENS["wordpiece"])
    _check_vocab_size(len(special) + 1, "the special tokens and a letter")
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=FLAGS.lowercase)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=FLAGS.vocab_size, special_tokens=special, show_progress=True
    )
    learner.train([str(path) for path in paths], trainer)
    ids = learner.get_vocab()
    if len(ids) > FLAGS.vocab_size:
        raise ValueError(
            f"--vocab_size {FLAGS.vocab_size} is too small: the special tokens and the characters "
            f"of the text are {len(ids)} tokens already"
        )

    def make():
        from lingxi.text import WordPieceTokenizer

        return WordPieceTokenizer(sorted(ids, key=ids.get), FLAGS.lowercase, FLAGS.max_length)

    return make


def _bpe(paths):
    _import("tokenizers")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    special = list(SPECIAL_TOKENS["bpe"])
    _check_vocab_size(NUM_BYTES + len(special), "the bytes and the special tokens")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=FLAGS.vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=True,
    )
    learner.train([str(path) for path in paths], trainer)

    def make():
        from lingxi.text import ByteBpeTokenizer

        model = json.loads(learner.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].get)
        merges = [" ".join(merge) for merge in model["merges"]]
        return ByteBpeTokenizer(tokens, merges, FLAGS.max_length)

    return make


def _sentencepiece(paths):
    sentencepiece = _import("sentencepiece")
    num_special = len(SPECIAL_TOKENS["sentencepiece"]) + FLAGS.sentinels
    _check_vocab_size(num_special + 1, "the special tokens and a letter")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=[str(path) for path in paths],
            model_writer=model,
            vocab_size=FLAGS.vocab_size - FLAGS.sentinels,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
        )
    except RuntimeError as error:
        raise ValueError(f"sentencepiece cannot learn from these files: {error}") from error

    def make():
        from lingxi.text import SentencePieceTokenizer

        return SentencePieceTokenizer(
            model.getvalue(), max_length=FLAGS.max_length, num_sentinels=FLAGS.sentinels
        )

    return make
