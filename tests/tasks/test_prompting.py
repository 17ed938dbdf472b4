"""Prompts by examples, and dialogues that forget their oldest turns."""

import pytest

from lingxi.tasks import Dialogue, few_shot
from tests.tasks.test_text_generator import new_generator


def test_a_prompt_shows_the_examples_and_ends_where_the_answer_begins():
    examples = [("a good film", "positive"), ("{dull}", "negative")]
    assert few_shot("Judge.", examples, "fine") == (
        "Judge.\n\nInput: a good film\nOutput: positive\n\nInput: {dull}\nOutput: negative\n\n"
        "Input: fine\nOutput:"
    )
    assert few_shot("", [], "x", template="{input} => {output}") == "x =>"
    with pytest.raises(ValueError, match="has no {output}"):
        few_shot("", [], "x", template="{input}")


@pytest.fixture(scope="module")
def generator():
    return new_generator()


def test_a_dialogue_shows_the_turns_so_far(generator):
    dialogue = Dialogue(generator, template="A: {user}\nB: {reply}", max_tokens=2)
    first = dialogue.say("a")
    assert dialogue.turns == [("a", first)]
    assert dialogue.prompt("b", max_tokens=2) == f"A: a\nB: {first}\nA: b\nB:"
    assert dialogue.stop == "\nA:"
    wanted = generator.generate(dialogue.prompt("b", 2), max_tokens=2, stop="\nA:").strip()
    assert dialogue.say("b") == wanted


def test_the_oldest_turns_are_forgotten_but_not_the_system(generator):
    dialogue = Dialogue(generator, system="Be kind.", template="A: {user}\nB: {reply}")
    dialogue.turns = [("first", "yes"), ("next", "no")]
    assert dialogue.prompt("end", 4) == "Be kind.\nA: next\nB: no\nA: end\nB:"  # 36 of 44
    assert dialogue.prompt("end", 20) == "Be kind.\nA: end\nB:"
    with pytest.raises(ValueError, match="leaves room for 8"):
        dialogue.prompt("end", 40)
    assert len(dialogue.turns) == 2
