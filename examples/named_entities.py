"""Teach a MiniLM to find people, places and titles of songs, games and films; ship it.

    python examples/named_entities.py ["a text of yours" …]
    python examples/named_entities.py --data=train.conll --test=test.conll "a text of yours"

Without --data it learns from the sentences below, which were written for this project: enough to
show the way, not to find every name. Your file is CoNLL or JSONL with spans, see
`lingxi.tasks.tagged_data.read_tagged`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib
import re
import shutil

import keras
from absl import app, flags, logging

import lingxi
from lingxi.tasks.tagged_data import read_tagged

DATA = flags.DEFINE_string("data", None, "to learn from, by default the sentences of this script")
TEST = flags.DEFINE_string("test", None, "to measure on")
EPOCHS = flags.DEFINE_integer("epochs", None, "by default 12, of a file 4")
DIRECTORY = flags.DEFINE_string("directory", "runs/names", "where to save everything")

MARK = r"\[(.+?)\]\((\w+)\)"
TRAIN = """
[Mara Lind](person) is live from [Oslo](place) tonight
did anyone see [Tomas Brandt](person) in [Lisbon](place) last week?
play [Paper Lanterns](title) again, please!
[Harbour Lights](title) is the best thing [Ines Moreau](person) ever wrote
greetings from [Nairobi](place), we love you
the concert in [Kyoto](place) is sold out
I finished [Stone Garden](title) in one night
[Old Pavel](person) taught me how to draw hands
who is [Ruth Okafor](person)?
we drove from [Madrid](place) to [Porto](place) with [Stone Garden](title) on repeat
[Aiko Tanaka](person) paints better than [Lukas](person), change my mind
is [The Silent Orchard](title) worth the money?
hello from a rainy [Glasgow](place)
my sister met [Nadia Haddad](person) at the airport of [Cairo](place)
[Winter Train](title) made me cry
when does [Benjamin Cole](person) come to [Toronto](place)?
[Priya Raman](person) and [Leo Fischer](person) sang [Blue Lantern](title) together
the new map of [Iron Valley](title) looks great
nobody sings [River Song](title) like [Elena Petrova](person)
I moved to [Helsinki](place) because of the snow
[Carlos Mendes](person) said the stream starts at nine
please visit [Buenos Aires](place) next year
[Amara](person) won the race, what a day
is that [Marcus Bell](person) in the background?
they filmed [The Last Ferry](title) in [Bergen](place)
thank you [Sofia Lindqvist](person), this helped me a lot
tickets for [Vienna](place) are gone already
can you read a page of [A House of Rain](title)?
[Jonas Weber](person) plays [Iron Valley](title) every Friday
it is 3 in the morning here in [Melbourne](place)
the market in [Marrakesh](place) was so colourful
[Grace Adeyemi](person) lives in [Lagos](place) now
I still hum [Paper Moon](title) in the shower
what would [Hugo Laurent](person) say about this colour?
a friend of mine from [Warsaw](place) knitted this
[Night Bakery](title) is calmer than [Dragon Harbour](title)
[Mei Chen](person) baked the cake from [Night Bakery](title)
good morning from [Santiago](place)!
did [Oliver Grant](person) write [Winter Train](title)?
flying to [Reykjavik](place) on Monday, any tips?
[Fatima Zahra](person) knows every street of [Paris](place)
the sound is fine, thanks for asking
what time does it start tomorrow?
this brush is far too soft for me
I have been here since the first stream
can you turn the music down a bit
the soup needs more salt, trust me
""".strip().splitlines()
HELD_OUT = """
[Clara Jensen](person) streams from [Dublin](place) on Sundays
is [Glass Mountain](title) as good as [Winter Train](title)?
hello from [Lima](place), say hi to [Peter Novak](person)
we heard [Harbour Lights](title) in [Berlin](place) with [Anna](person)
my cat hates this music
[Samuel Osei](person) wrote [The Quiet Lake](title) in [Accra](place)
""".strip().splitlines()
TEXTS = ["Is Hannah Berg still in Rome?", "please play Golden Bridge once more"]


def main(arguments):
    logging.set_verbosity(logging.ERROR)  # TensorFlow notes much while it exports
    keras.utils.set_random_seed(1)
    train = read_tagged(DATA.value) if DATA.value else marked(TRAIN)
    labels = sorted({label for example in train for _, _, label in example.entities})
    tagger = lingxi.tasks.TokenClassifier.from_preset(
        "minilm_l6_en_uncased", labels=labels, crf=True, max_length=96
    )
    epochs = EPOCHS.value or (4 if DATA.value else 12)
    tagger.fit(train, epochs=epochs, batch_size=8, learning_rate=3e-4, seed=1, verbose=2)
    if TEST.value or not DATA.value:
        test = read_tagged(TEST.value) if TEST.value else marked(HELD_OUT)
        scores = tagger.evaluate(test, return_dict=True, verbose=0)
        print(f"{len(test)} held-out texts: F1 of whole entities {scores['f1']:.1%}")

    directory = pathlib.Path(DIRECTORY.value)
    shutil.rmtree(directory, ignore_errors=True)
    tagger.save_preset(directory / "preset")  # transformers reads it, too, without the CRF
    print(lingxi.export.saved_model(tagger, directory / "serving"))
    served = lingxi.export.load(directory / "serving")  # raw text in, places in the text out
    for text in arguments[1:] or TEXTS:
        print(f"\n{text}")
        for entity in served.tag(text):
            place = f"{entity.start}–{entity.end}"
            print(f"  {place:>7}  {entity.label:8} {entity.score:4.0%}  {entity.text}")


def marked(lines):
    """Texts with their entities, of lines in which each is written `[name](label)`."""
    texts, entities = [], []
    for line in lines:
        text, spans, end = "", [], 0
        for match in re.finditer(MARK, line):
            text += line[end : match.start()]
            spans.append((len(text), len(text) + len(match[1]), match[2]))
            text += match[1]
            end = match.end()
        texts.append(text + line[end:])
        entities.append(spans)
    return read_tagged(texts, entities)


if __name__ == "__main__":
    app.run(main)
