"""The card of an artifact, its checksums, and how many bytes its components have."""

import json
import zipfile

import numpy as np
import pytest

import lingxi
from lingxi import export
from lingxi.export import components, metadata
from tests.export.conftest import FORMATS

TOLD = {"training_data": "64 toy texts", "metrics": {"accuracy": 1.0}, "licence": "CC0"}


@pytest.fixture(scope="module")
def told(classifier, tmp_path_factory):
    """Artifacts with a card from the user: `{kind: path}`."""
    folder = tmp_path_factory.mktemp("told")
    paths = {}
    for kind, (form, options) in FORMATS.items():
        path = folder / (kind if form == "saved_model" else f"{kind}.tflite")
        paths[kind] = getattr(export, form)(classifier, path, card=TOLD, **options).path
    return paths


def copied(path, folder):
    """A copy of an artifact, to break."""
    copy = folder / path.name
    if path.is_file():
        copy.write_bytes(path.read_bytes())
        return copy
    for file in path.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return copy


def flip(path, place):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_card_says_what_it_was_made_of_and_how_it_was_verified(told, kind, classifier):
    card = metadata.read(told[kind])["card"]
    report = card.pop("verification")
    assert card.pop("created").startswith("20")
    assert card == {
        **TOLD,
        "architecture": "Bert",
        "num_parameters": classifier.count_params(),
        "lingxi": lingxi.__version__,
        "tensorflow": card["tensorflow"],
    }
    assert report["agreement"] == 1.0
    assert report["num_examples"] == 40
    assert report["max_difference"] < 1e-3
    assert "serving_default" in report["signatures"]


@pytest.mark.parametrize(
    ("card", "error"),
    [({"created": "today"}, ValueError), ("a text", ValueError), ({"model": object()}, TypeError)],
)
def test_a_bad_card_is_refused_before_anything_is_written(classifier, tmp_path, card, error):
    for path, write in (("a.tflite", export.tflite), ("a", export.saved_model)):
        with pytest.raises(error, match="card must"):
            write(classifier, tmp_path / path, card=card)
    assert list(tmp_path.iterdir()) == []


def test_the_checksums_are_of_every_file(told):
    def parts(kind):
        return set(metadata.read(told[kind])[metadata.CHECKSUMS])

    assert parts("tflite_text") == {"lingxi.json", "model"}
    assert parts("tflite_ids") > {"lingxi.json", "model", "vocab.txt"}
    files = {
        f.relative_to(told["saved_model"]).as_posix() for f in told["saved_model"].rglob("*.*")
    }
    files = {name for name in files if (told["saved_model"] / name).is_file()}
    assert parts("saved_model") == (files - {"assets.extra/lingxi.json"}) | {"lingxi.json"}


@pytest.mark.parametrize("kind", ["tflite_text", "tflite_ids"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_changed_bit_of_a_tflite_file_is_noticed(told, kind, share, tmp_path):
    path = copied(told[kind], tmp_path)
    flip(path, int(share * path.stat().st_size))
    with pytest.raises(ValueError, match=r"is damaged"):
        export.load(path)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_changed_bit_of_a_saved_model_is_noticed(told, name, tmp_path):
    path = copied(told["saved_model"], tmp_path)
    flip(path / name, 5000)
    with pytest.raises(ValueError, match=f"damaged or was changed .* SHA-256 of {name} is not"):
        export.load(path)


def test_changed_labels_are_noticed(told, tmp_path):
    path = copied(told["saved_model"], tmp_path)
    facts = json.loads((path / "assets.extra/lingxi.json").read_text("utf-8"))
    facts["labels"].reverse()
    metadata.write_beside(path, facts)
    with pytest.raises(ValueError, match=r"SHA-256 of lingxi\.json is not"):
        export.load(path)


def test_a_missing_file_is_noticed(told, tmp_path):
    path = copied(told["saved_model"], tmp_path)
    (path / "variables/variables.index").unlink()
    with pytest.raises(ValueError, match=r"SHA-256 of variables/variables\.index is not"):
        export.load(path)


def test_a_file_that_is_cut_off_is_refused(told, tmp_path):
    path = copied(told["tflite_ids"], tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="or cut off"):
        export.load(path)


def test_an_added_file_is_no_damage(told, tmp_path):
    """Servers keep theirs beside a model."""
    path = copied(told["saved_model"], tmp_path)
    (path / "assets.extra/notes.txt").write_text("of the operator")
    assert metadata.read(path)["card"]["licence"] == "CC0"


def test_an_artifact_from_before_there_were_cards_is_loaded(told, tmp_path):
    path = copied(told["saved_model"], tmp_path)
    facts = metadata.read(path)
    metadata.write_beside(path, {n: v for n, v in facts.items() if n not in ("card", "sha256")})
    assert len(export.load(path).classify(["good"])) == 1


def test_the_model_of_a_tflite_file_is_as_before_the_archive(told):
    """Interpreters that know no zip read the same bytes."""
    with zipfile.ZipFile(told["tflite_ids"]) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        length = metadata.model_length(archive)
    assert told["tflite_ids"].read_bytes()[4:8] == b"TFL3"
    assert length < told["tflite_ids"].stat().st_size


@pytest.mark.parametrize("kind", FORMATS)
def test_components_add_up_and_the_weights_are_those_of_the_model(told, kind, classifier):
    path = told[kind]
    sizes = components.sizes(path)
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    assert sum(sizes.values()) == sum(file.stat().st_size for file in files)
    assert min(sizes.values()) > 0
    weights = 4 * classifier.count_params()
    assert sizes["embeddings"] + sizes["layers"] == pytest.approx(weights, rel=0.02)
    tables = [w for w in classifier.weights if w.path.endswith("embedding/embeddings")]
    tables = 4 * sum(int(np.prod(w.shape)) for w in tables)
    assert sizes["embeddings"] == pytest.approx(tables, rel=0.5)
    if kind == "tflite_ids":
        assert sizes["tokenizer"] < 5000
    else:
        assert sizes["tokenizer"] > 100_000  # the tables of BERT's normalizer


def test_int8_weights_are_a_quarter(exported, told):
    small, _ = exported("tflite", input="ids", quantize="int8")
    small, large = components.sizes(small), components.sizes(told["tflite_ids"])
    assert small["embeddings"] == pytest.approx(large["embeddings"] / 4, rel=0.2)
    assert small["layers"] == pytest.approx(large["layers"] / 4, rel=0.2)
