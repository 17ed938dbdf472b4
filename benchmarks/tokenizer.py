"""WordPiece lines per second on SST-2, in batches of 256, beside `transformers`."""

import statistics

from common import describe_machine, sst2, timed
from transformers import BertTokenizer

from lingxi.text import WordPieceTokenizer
from lingxi.zoo import preset

BATCH = 256


def main():
    directory = preset.resolve("minilm_l6_en_uncased")
    ours = WordPieceTokenizer.from_directory(directory)
    theirs = BertTokenizer.from_pretrained(directory)
    texts, _ = sst2("train")
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    seconds = {
        "lingxi": timed(lambda: [ours(batch, max_length=128) for batch in batches], 5),
        "transformers": timed(
            lambda: [
                theirs(batch, max_length=128, truncation=True, padding=True, return_tensors="np")
                for batch in batches
            ],
            5,
        ),
    }
    seconds = {name: statistics.median(times) for name, times in seconds.items()}
    print(describe_machine())
    for name, value in seconds.items():
        print(f"{name:14}{len(texts) / value:10.0f} lines/s")
    print(f"ratio {seconds['transformers'] / seconds['lingxi']:.1f}")


if __name__ == "__main__":
    main()
