"""Teach a MiniLM to answer questions about a text by a part of the text; ship it.

    python examples/question_answering.py ["a question" "a text"]
    python examples/question_answering.py --data=train.json --test=dev.json "a question" "a text"

Without --data it learns from the few texts below, which were written for this project: enough to
show the way and to answer questions like these. For questions of all kinds pass a file of SQuAD's
form (versions 1.1 and 2.0, CMRC 2018).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib
import shutil

import keras
from absl import app, flags, logging

import lingxi

DATA = flags.DEFINE_string("data", None, "to learn from, by default the texts of this script")
TEST = flags.DEFINE_string("test", None, "to measure on")
EPOCHS = flags.DEFINE_integer("epochs", None, "by default 20, of a file 2")
DIRECTORY = flags.DEFINE_string("directory", "runs/answers", "where to save everything")

TRAIN = {
    "The lighthouse of Varn was built in 1843 by the engineer Edda Holm. It stands on a red cliff "
    "and can be seen from twelve miles away.": {
        "Who built the lighthouse?": "Edda Holm",
        "When was the lighthouse built?": "1843",
        "Where does the lighthouse stand?": "on a red cliff",
        "From how far away can it be seen?": "twelve miles",
    },
    "Our bakery opens at six in the morning and closes at noon. Rosa Keller bakes the bread, and "
    "her brother Emil sells it at the market in Linz.": {
        "When does the bakery open?": "six in the morning",
        "When does the bakery close?": "noon",
        "Who bakes the bread?": "Rosa Keller",
        "Who sells the bread?": "Emil",
        "Where is the bread sold?": "at the market in Linz",
    },
    "The river Tamsel rises in the Grey Hills, flows through the town of Orrin and reaches the sea "
    "after 212 kilometres. Salmon return to it every autumn.": {
        "Where does the river rise?": "in the Grey Hills",
        "Which town does it flow through?": "Orrin",
        "How long is the river?": "212 kilometres",
        "When do salmon return?": "every autumn",
    },
    "Captain Yusuf Demir sailed from Bristol to Havana in 41 days. His ship, the Silver Gull, "
    "carried wool and tin.": {
        "Who sailed to Havana?": "Captain Yusuf Demir",
        "How long did the journey take?": "41 days",
        "What was the name of the ship?": "the Silver Gull",
        "What did the ship carry?": "wool and tin",
        "Where did the journey begin?": "Bristol",
    },
    "The tram line 7 was opened in 1926. It has nineteen stops, and a ticket costs two crowns. The "
    "last tram leaves the old harbour at half past eleven.": {
        "When was the line opened?": "1926",
        "How many stops does it have?": "nineteen",
        "How much does a ticket cost?": "two crowns",
        "When does the last tram leave?": "half past eleven",
        "Where does the last tram leave from?": "the old harbour",
    },
    "Doctor Lena Osei discovered the blue moss in 2009 on an island near Iceland. The moss glows "
    "at night because of a salt in its leaves.": {
        "Who discovered the moss?": "Doctor Lena Osei",
        "When was the moss discovered?": "2009",
        "Where was the moss discovered?": "on an island near Iceland",
        "Why does the moss glow?": "because of a salt in its leaves",
    },
    "The museum of clocks in Delft shows 600 clocks. The oldest was made in 1510 by the monk "
    "Anselm. On Mondays the museum is closed.": {
        "How many clocks does the museum show?": "600",
        "Who made the oldest clock?": "the monk Anselm",
        "When was the oldest clock made?": "1510",
        "When is the museum closed?": "On Mondays",
        "Where is the museum?": "in Delft",
    },
}
HELD_OUT = {
    "The bridge of Lorne was built in 1788 by the mason Ada Quill. It is 90 metres long and leads "
    "to the mill on the island.": {
        "Who built the bridge?": "Ada Quill",
        "When was the bridge built?": "1788",
        "How long is the bridge?": "90 metres",
        "Where does the bridge lead?": "to the mill on the island",
    },
    "The library in Gent opens at nine and has 4000 books. Ivo Maas reads to the children every "
    "Saturday.": {
        "When does the library open?": "nine",
        "How many books does it have?": "4000",
        "Who reads to the children?": "Ivo Maas",
    },
}
ASKED = ("Who planted the garden?", "The garden was planted in 1901 by the painter Nora Finch.")


def main(arguments):
    logging.set_verbosity(logging.ERROR)  # TensorFlow notes much while it exports
    keras.utils.set_random_seed(1)
    reader = lingxi.tasks.QuestionAnswerer.from_preset("minilm_l6_en_uncased", max_length=256)
    epochs = EPOCHS.value or (2 if DATA.value else 20)
    train = DATA.value or questions(TRAIN)
    reader.fit(train, epochs=epochs, batch_size=8, learning_rate=2e-4, seed=1, verbose=2)
    if TEST.value or not DATA.value:
        test = TEST.value or questions(HELD_OUT)
        scores = reader.evaluate(test, verbose=0)
        print(f"held-out: exact match {scores['exact_match']:.1f}, F1 {scores['f1']:.1f}")

    directory = pathlib.Path(DIRECTORY.value)
    shutil.rmtree(directory, ignore_errors=True)
    reader.save_preset(directory / "preset")  # AutoModelForQuestionAnswering reads it, too
    print(lingxi.export.saved_model(reader, directory / "serving"))
    served = lingxi.export.load(directory / "serving")  # raw texts in, a place in the text out
    question, text = arguments[1:3] if len(arguments) > 2 else ASKED
    answer = served.answer(question, text)
    print(f"\n{text}\n{question}\n  {answer.start}–{answer.end}  {answer.score:.0%}  {answer.text}")


def questions(texts):
    """In SQuAD's form: each answer with its place in the text."""
    return [
        {
            "question": question,
            "context": text,
            "answers": [{"text": answer, "answer_start": text.index(answer)}],
        }
        for text, asked in texts.items()
        for question, answer in asked.items()
    ]


if __name__ == "__main__":
    app.run(main)
