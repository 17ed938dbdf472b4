"""A language model of your own texts: train it, let it write, ask it, save it.

python examples/text_generation.py --texts=shakespeare.txt [--steps=1000] [--directory=…]
"""

import pathlib

from absl import app, flags

import lingxi

TEXTS = flags.DEFINE_multi_string("texts", None, "plain text files", required=True)
STEPS = flags.DEFINE_integer("steps", 1000, "of training")
DIRECTORY = flags.DEFINE_string("directory", None, "where to save the model")


def main(_):
    from lingxi.text import ByteBpeTokenizer
    from lingxi.text.byte_bpe import byte_characters
    from lingxi.zoo import Gpt, GptConfig

    # Every byte is a token: no vocabulary is needed. For a real one give a directory,
    # TextGenerator.from_preset("gpt2_small", vocabulary="…"), or begin with trained weights,
    # TextGenerator.from_preset("…/a/directory/of/gpt2").
    tokenizer = ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], merges=[])
    config = GptConfig(
        vocab_size=tokenizer.vocab_size, hidden_dim=128, num_layers=4, num_heads=4, max_length=128
    )
    generator = lingxi.tasks.TextGenerator(Gpt(config), tokenizer)

    paths = [pathlib.Path(path) for path in TEXTS.value]
    generator.fit(paths, steps_per_epoch=STEPS.value, batch_size=16, learning_rate=1e-3)

    print(generator.generate(["ROMEO:", "To be, or"], max_tokens=60, temperature=0.8, top_k=50))
    for piece in generator.stream("JULIET:", max_tokens=60, temperature=0.8, stop="\n\n"):
        print(piece, end="", flush=True)
    print()
    for score in generator.score(["my lord", "mj lurd"]):
        print("".join(score.tokens), f"{score.total:.1f}")
    print(generator.choose("my ", ["lord", "zebra"]).label)

    if DIRECTORY.value:
        generator.save_preset(DIRECTORY.value)  # transformers reads it, too


if __name__ == "__main__":
    app.run(main)
