"""Prompts that make a plain language model answer: by examples, and in a dialogue."""

EXAMPLE = "Input: {input}\nOutput: {output}"
TURN = "User: {user}\nAssistant: {reply}"


def few_shot(instruction, examples, query, template=EXAMPLE, separator="\n\n"):
    """A prompt that shows examples of a task and ends where the answer to `query` begins.

    The prompt ends without a space: that which stands before an answer belongs to its first token,
    so the choices of `TextGenerator.choose` begin with it (`" positive"`).

    Args:
        instruction: what to do; may be empty.
        examples: pairs `(input, output)`.
        query: the input to answer.
        template: of an example, with `{input}` before `{output}`.
        separator: between instruction and examples.
    """
    shown = [template.format(input=given, output=wanted) for given, wanted in examples]
    question = _beginning(template, "{output}").format(input=query)
    return separator.join([*([instruction] if instruction else []), *shown, question])


class Dialogue:
    """A conversation with a generator; the oldest turns are forgotten when the context is full.

    Args:
        generator: a `lingxi.tasks.TextGenerator`.
        system: what stands before all turns, and is never forgotten.
        template: of a turn, with `{user}` before `{reply}`.
        separator: between turns.
        stop: where a reply ends, by default where the next turn would begin.
        options: of `TextGenerator.generate`.

    Attributes:
        turns: all pairs `(text, reply)` so far.
    """

    def __init__(self, generator, system="", template=TURN, separator="\n", stop=None, **options):
        self.generator = generator
        self.system = system
        self.template = template
        self.separator = separator
        self.stop = separator + _beginning(template, "{user}") if stop is None else stop
        self.options = options
        self.turns = []

    def say(self, text, **options):
        """The reply to `text`, a str; `options` are changes of the dialogue's own."""
        options = {"stop": self.stop, **self.options, **options}
        known = {name: value for name, value in options.items() if name == "max_tokens"}
        prompt = self.prompt(text, **known)
        reply = self.generator.generate(prompt, **options).strip()
        self.turns.append((text, reply))
        return reply

    def prompt(self, text, max_tokens=None):
        """What the generator continues: as many of the last turns as fit, then `text`.

        Args:
            max_tokens: of the reply, by default the generator's.

        Raises:
            ValueError: `text` does not fit even alone.
        """
        if max_tokens is None:
            max_tokens = self.generator.decoding.max_tokens
        room = self.generator.max_length - max_tokens
        question = _beginning(self.template, "{reply}").format(user=text)
        shown = [self.template.format(user=user, reply=reply) for user, reply in self.turns]
        for first in range(len(shown) + 1):
            system = [self.system] if self.system else []
            prompt = self.separator.join([*system, *shown[first:], question])
            length = len(self.generator.tokenizer.encode(prompt, add_special_tokens=False))
            if length <= room:
                return prompt
        raise ValueError(
            f"the text takes {length} tokens with what stands around it, but max_tokens="
            f"{max_tokens} leaves room for {room}; shorten it, or ask for fewer tokens"
        )


def _beginning(template, place):
    """A template up to `place`, without the space before it."""
    if place not in template:
        raise ValueError(f"the template {template!r} has no {place}")
    return template[: template.index(place)].rstrip(" ")
