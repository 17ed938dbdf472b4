"""How to choose tokens."""

import dataclasses
import math

LENGTH_PENALTIES = ("power", "gnmt")
EARLY_STOPPING = (True, False, "never")


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
    """How a sequence is decoded: greedily, if nothing else is said.

    Attributes:
        max_tokens: the most tokens that are made.
        min_tokens: the end token is not chosen before so many.
        beams: hypotheses of a beam search; 1 for none.
        length_penalty: α. A hypothesis of `n` tokens competes with `log P / n^α`, or as in GNMT
            (Wu et al. 2016, equation 14) with `log P / ((5 + n) / 6)^α`.
        length_penalty_form: "power" or "gnmt".
        early_stopping: when a beam search ends. True: as soon as `beams` hypotheses have ended.
            False: when the best running one, at its present length, is worse than they are.
            "never": when it is worse at any length.
        temperature: 0 to take the most probable token; else tokens are drawn, and this divides
            the logits before.
        num_results: results of one input: the best so many beams, or so many samples.
        top_k: only the so many most probable tokens.
        top_p: only the most probable tokens that have this probability together (Holtzman et al.
            2020).
        min_p: only tokens at least this share as probable as the most probable one.
        typical_p: only the tokens whose information is nearest to the entropy, that have this
            probability together (Meister et al. 2022).
        repetition_penalty: divides positive and multiplies negative scores of tokens that have
            been there (Keskar et al. 2019, section 4.1).
        no_repeat_ngram: no sequence of so many tokens comes twice; 0 for no such rule.
        banned: token ids, and sequences of ids, that never come.
        prefix: token ids that every output begins with.
        last_token: the id that the token at `max_tokens` is made to be, as BART wants.
        contrastive_alpha: the weight α of the penalty of contrastive search (Su et al. 2022)
            among `top_k` candidates; 0 for none.
        pad_id: what follows the end; by default the model's.
        eos_id: the end token, or several; by default the model's; () for none.
    """

    max_tokens: int = 64
    min_tokens: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    length_penalty_form: str = "power"
    early_stopping: bool | str = False
    temperature: float = 0.0
    num_results: int = 1
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    banned: tuple = ()
    prefix: tuple = ()
    last_token: int | None = None
    contrastive_alpha: float = 0.0
    pad_id: int | None = None
    eos_id: int | tuple | None = None

    def __post_init__(self):
        _whole(self, max_tokens=0, min_tokens=0, beams=1, num_results=1, top_k=0, no_repeat_ngram=0)
        _within(self, "temperature", 0, math.inf)
        _within(self, "min_p", 0, 1)
        _within(self, "contrastive_alpha", 0, 1)
        for name in ("top_p", "typical_p", "repetition_penalty"):
            _within(self, name, 0, math.inf if name == "repetition_penalty" else 1, open_below=True)
        if self.length_penalty_form not in LENGTH_PENALTIES:
            raise ValueError(
                f"length_penalty_form must be one of {LENGTH_PENALTIES}, "
                f"got {self.length_penalty_form!r}"
            )
        if self.early_stopping not in EARLY_STOPPING:
            raise ValueError(
                f"early_stopping must be one of {EARLY_STOPPING}, got {self.early_stopping!r}"
            )
        self._reject_contradictions()

    def _reject_contradictions(self):
        sampling = [
            f"{name}={getattr(self, name)}"
            for name, neutral in (("top_p", 1), ("min_p", 0), ("typical_p", 1))
            if getattr(self, name) != neutral
        ]
        if self.beams > 1 and self.temperature:
            raise ValueError(
                f"beams={self.beams} searches and temperature={self.temperature} draws; set beams "
                "to 1 to draw, or temperature to 0 to search"
            )
        if self.beams > 1 and self.contrastive_alpha:
            raise ValueError(
                f"beams={self.beams} and contrastive_alpha={self.contrastive_alpha} are two "
                "searches; choose one"
            )
        if self.contrastive_alpha and (self.top_k < 2 or self.temperature):
            raise ValueError(
                "contrastive_alpha needs top_k of at least 2 (its candidates) and temperature 0, "
                f"got top_k={self.top_k} and temperature={self.temperature}"
            )
        if not self.temperature and not self.contrastive_alpha and (sampling or self.top_k):
            given = ", ".join([f"top_k={self.top_k}"] * bool(self.top_k) + sampling)
            raise ValueError(
                f"{given} restrict what is drawn, but temperature=0 always takes the most probable "
                "token; set a temperature, for instance 1.0"
            )
        several = max(self.beams, 1)
        if not self.temperature and self.num_results > several:
            raise ValueError(
                f"num_results={self.num_results} needs as many beams or a temperature, got "
                f"beams={self.beams} and temperature=0"
            )
        if self.min_tokens > self.max_tokens:
            raise ValueError(
                f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}"
            )
        if len(self.prefix) > self.max_tokens:
            raise ValueError(
                f"prefix has {len(self.prefix)} tokens, more than max_tokens={self.max_tokens}"
            )

    @property
    def rows(self):
        """Hypotheses of one example that are decoded side by side."""
        if self.beams > 1:
            return self.beams
        return self.top_k if self.contrastive_alpha else self.num_results


def _whole(options, **least):
    for name, lowest in least.items():
        value = getattr(options, name)
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < lowest:
            raise ValueError(f"{name} must be a whole number of at least {lowest}, got {value!r}")


def _within(options, name, low, high, open_below=False):
    value = getattr(options, name)
    if not (low < value if open_below else low <= value) or not value <= high:
        lowest = f"more than {low}" if open_below else f"at least {low}"
        highest = "" if high == math.inf else f" and at most {high}"
        raise ValueError(f"{name} must be {lowest}{highest}, got {value!r}")
