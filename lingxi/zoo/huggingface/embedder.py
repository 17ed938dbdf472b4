"""Embedding models as `sentence_transformers` writes them: an encoder and small files around it.

`modules.json` lists what runs one after the other: the encoder, pooling, perhaps normalization.
"""

import dataclasses
import json
import pathlib

MODULES_NAME = "modules.json"
ENCODER_NAME = "sentence_bert_config.json"
PROMPTS_NAME = "config_sentence_transformers.json"
TOKENIZER_NAME = "tokenizer_config.json"
POOLINGS = {  # key in the pooling's config.json: ours
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


@dataclasses.dataclass(frozen=True)
class Embedding:
    """What the files say.

    Attributes:
        encoder: the directory of the encoder and its tokenizer.
        pooling: "mean", "cls" or "max".
        normalize: whether embeddings have length 1.
        max_length: in tokens, or None.
        prompts: `{name: text}`.
        default_prompt: the name of one that goes before every text, or None.
    """

    encoder: pathlib.Path
    pooling: str = "mean"
    normalize: bool = True
    max_length: int | None = None
    prompts: dict = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None


def read(directory):
    """The `Embedding` in a directory; of one without `modules.json`, that of a plain encoder.

    Raises:
        ValueError: it does what lingxi does not, such as another module or pooling.
    """
    directory = pathlib.Path(directory)
    path = directory / MODULES_NAME
    if not path.is_file():
        return Embedding(directory)
    modules = json.loads(path.read_text("utf-8"))
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(
            f"{path} has the modules {', '.join(kinds)}; supported: Transformer, Pooling and, if "
            "wanted, Normalize, in this order"
        )
    encoder = directory / modules[0]["path"]
    settings, prompts = _read_json(encoder / ENCODER_NAME), _read_json(directory / PROMPTS_NAME)
    kind = prompts.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ValueError(f"{directory} is a {kind}; supported: SentenceTransformer")
    if prompts.get("truncate_dim"):
        raise ValueError(f"{directory / PROMPTS_NAME} has truncate_dim; lingxi gives whole ones")
    tokenizer = _read_json(encoder / TOKENIZER_NAME)
    if settings.get("do_lower_case") and tokenizer.get("do_lower_case") is False:
        raise ValueError(
            f"{encoder / ENCODER_NAME} lowercases the texts of a cased tokenizer; set its "
            "do_lower_case to false if the model was trained so"
        )
    return Embedding(
        encoder=encoder,
        pooling=_pooling(directory / modules[1]["path"] / "config.json"),
        normalize=len(modules) == 3,
        max_length=settings.get("max_seq_length") or tokenizer.get("model_max_length"),
        prompts={name: text or "" for name, text in (prompts.get("prompts") or {}).items()},
        default_prompt=prompts.get("default_prompt_name"),
    )


def contents(dim, pooling, normalize, max_length, prompts, default_prompt):
    """`{file name: contents}` of what `read` reads; the encoder is in the same directory."""
    kinds = ["Transformer", "Pooling", "Normalize"] if normalize else ["Transformer", "Pooling"]
    paths = ["", "1_Pooling", "2_Normalize"]
    files = {
        MODULES_NAME: [
            {
                "idx": index,
                "name": str(index),
                "path": paths[index],
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, kind in enumerate(kinds)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": dim,
            **{key: ours == pooling for key, ours in POOLINGS.items()},
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        ENCODER_NAME: {"max_seq_length": max_length, "do_lower_case": False},
        PROMPTS_NAME: {
            "prompts": prompts,
            "default_prompt_name": default_prompt,
            "similarity_fn_name": "cosine",
        },
    }
    if normalize:
        names = ("module_input_name", "module_output_name")
        files["2_Normalize/config.json"] = dict.fromkeys(names, "sentence_embedding")
    return files


def _pooling(path):
    """From the flags of old files or the one name of new ones (version 5.3 and later)."""
    config = _read_json(path)
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        modes = [modes] if isinstance(modes, str) else list(modes)
    else:
        flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        modes = [POOLINGS.get(key, key) for key in flags] or ["mean"]
    if len(modes) != 1 or modes[0] not in POOLINGS.values():
        raise ValueError(
            f"{path} has the pooling {' and '.join(modes)}; "
            f"supported: one of {', '.join(POOLINGS.values())}"
        )
    if not config.get("include_prompt", True):
        raise ValueError(f"{path} leaves prompts out of the pooling; lingxi cannot do that")
    return modes[0]


def _read_json(path):
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
