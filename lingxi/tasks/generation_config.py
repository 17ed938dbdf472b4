"""How Hugging Face says how to decode: `generation_config.json`."""

import json
import pathlib
import warnings

FILE_NAME = "generation_config.json"
FIELDS = {
    # ours: theirs
    "beams": "num_beams",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "last_token": "forced_eos_token_id",
    "eos_id": "eos_token_id",
    "pad_id": "pad_token_id",
}
SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
}
UNSUPPORTED = {
    # their value that changes nothing
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
}


def read_options(directory):
    """The arguments of `DecodingOptions` that a directory of an encoder–decoder asks for.

    As in `transformers`, older directories without a `generation_config.json` say it in their
    `config.json`.
    """
    directory = pathlib.Path(directory)
    path = directory / FILE_NAME
    if not path.is_file():
        path = directory / "config.json"
    contents = json.loads(path.read_text("utf-8"))
    for name, neutral in UNSUPPORTED.items():
        if contents.get(name) not in (None, neutral):
            warnings.warn(f"{path}: {name}={contents[name]!r} is not supported", stacklevel=2)
    fields = {ours: contents.get(theirs) for ours, theirs in FIELDS.items()}
    if contents.get("do_sample"):
        fields |= {"temperature": 1.0, "top_k": 50}
        fields |= {
            ours: contents[theirs] for ours, theirs in SAMPLING.items() if theirs in contents
        }
        fields["beams"] = 1
    # Their lengths count the token that the decoder starts with.
    for ours, length, new in (
        ("max_tokens", "max_length", "max_new_tokens"),
        ("min_tokens", "min_length", "min_new_tokens"),
    ):
        if contents.get(length):
            fields[ours] = max(0, contents[length] - 1)
        if contents.get(new) is not None:
            fields[ours] = contents[new]
    if contents.get("forced_bos_token_id") is not None:
        fields["prefix"] = (contents["forced_bos_token_id"],)
    banned = [tuple(ids) if len(ids) > 1 else ids[0] for ids in contents.get("bad_words_ids") or ()]
    fields["banned"] = (*banned, *(contents.get("suppress_tokens") or ()))
    return {name: value for name, value in fields.items() if value is not None}


def contents_of(options, decoder_start_id):
    """The contents of a `generation_config.json` that asks for `DecodingOptions`.

    Stop strings and what `transformers` does not know (GNMT's length penalty) are left out.
    """
    contents = {theirs: getattr(options, ours) for ours, theirs in FIELDS.items()}
    contents["max_length"] = options.max_tokens + 1
    if options.min_tokens:
        contents["min_length"] = options.min_tokens + 1
    if options.temperature:
        contents["do_sample"] = True
        contents |= {theirs: getattr(options, ours) for ours, theirs in SAMPLING.items()}
    if options.prefix:
        contents["forced_bos_token_id"] = options.prefix[0]
    if options.banned:
        contents["bad_words_ids"] = [[i] if isinstance(i, int) else list(i) for i in options.banned]
    contents["decoder_start_token_id"] = decoder_start_id
    return {name: value for name, value in contents.items() if value is not None}
