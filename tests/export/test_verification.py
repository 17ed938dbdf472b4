"""What is exported is compared with its task, and what fails leaves nothing behind."""

import dataclasses
import errno
import os
import pathlib
import resource

import numpy as np
import pytest
import tensorflow as tf

from lingxi import export
from lingxi.export import Report, VerificationError
from tests.export.conftest import LABELS, PAIRS, matrix, module, names

# The texts of the toy task, for which `classifier` is sure of its answer.
BAD_TEXT, GOOD_TEXTS = "the awful film", ["lovely film", "the good film", "great"]


def write(form, task, path, **options):
    """Export to `path` in either format."""
    return getattr(export, form)(task, path, **options)


@pytest.fixture(params=["saved_model", "tflite"])
def form(request):
    return request.param


@pytest.fixture
def target(form, tmp_path):
    """Where to export to; its parent is to be empty after a failure."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / ("1" if form == "saved_model" else "model.tflite")


@pytest.fixture
def attempt(form, target):
    """A function: export to `target`."""

    def run(task, **options):
        where = target.parent if form == "saved_model" else target
        return write(form, task, where, **options)

    return run


@pytest.fixture
def wrong_weights(form, contrary, monkeypatch):
    """Every export silently writes the weights of another classifier."""
    if form == "saved_model":
        monkeypatch.setattr(module("saved_model"), "in_precision", lambda task, precision: contrary)
    else:
        convert = module("tflite")._convert
        monkeypatch.setattr(
            module("tflite"), "_convert", lambda task, *settings: convert(contrary, *settings)
        )


@pytest.fixture
def small_disk():
    """No file may be longer than 200 kB: it stands in for the end of the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_wrong_weights_are_noticed_and_nothing_is_left(attempt, target, classifier, wrong_weights):
    with pytest.raises(VerificationError, match=r"0\.0% of 40 texts, but 100\.0% are required"):
        attempt(classifier)
    assert names(target.parent) == []


def test_a_failure_leaves_the_old_file_as_it_was(classifier, tmp_path):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"the model of yesterday")
    with pytest.raises(VerificationError):
        export.tflite(classifier, target, min_agreement=1.01)
    assert target.read_bytes() == b"the model of yesterday"
    assert names(tmp_path) == ["model.tflite"]


def test_a_success_replaces_the_old_file(classifier, tmp_path):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"the model of yesterday")
    export.tflite(classifier, target)
    assert export.load(target).classify(GOOD_TEXTS[:1])[0].label == LABELS[1]
    assert names(tmp_path) == ["model.tflite"]


def test_a_failure_leaves_the_old_versions(classifier, tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(VerificationError):
        export.saved_model(classifier, tmp_path, min_agreement=1.01)
    assert names(tmp_path) == ["1"]


def test_weights_that_are_not_numbers_are_noticed(attempt, target, with_head):
    broken = with_head(lambda kernel, bias: (kernel, bias * np.nan))
    with pytest.raises(VerificationError):
        attempt(broken, min_agreement=0)
    assert names(target.parent) == []


def test_no_examples_are_refused(classifier, tmp_path):
    with pytest.raises(ValueError, match="at least one example"):
        export.saved_model(classifier, tmp_path, examples=[])
    assert names(tmp_path) == []


def test_examples_that_are_no_texts_are_refused(classifier, tmp_path):
    with pytest.raises(TypeError, match=r"texts\[1\] is None"):
        export.tflite(classifier, tmp_path / "model.tflite", examples=["good", None])
    assert names(tmp_path) == []


def test_a_parent_that_is_a_file_is_an_error_that_names_the_target(form, classifier, tmp_path):
    (tmp_path / "file").write_text("precious")
    path = tmp_path / "file" / "model.tflite"
    with pytest.raises(OSError, match=f"cannot write {path}"):
        write(form, classifier, path)
    assert (tmp_path / "file").read_text() == "precious"
    assert names(tmp_path) == ["file"]


def test_a_rename_without_space_is_an_error_that_names_the_target(
    attempt, target, classifier, monkeypatch
):
    replace = os.replace

    def full(source, destination):
        if pathlib.Path(destination) == target:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, destination)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=f"cannot write {target}: No space left") as caught:
        attempt(classifier)
    assert caught.value.errno == errno.ENOSPC
    assert names(target.parent) == []


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_a_full_disk_is_an_error_that_names_a_tflite_file(
    classifier, tmp_path, small_disk, existing
):
    target = tmp_path / "model.tflite"
    if existing:
        target.write_bytes(b"the model of yesterday")
    with pytest.raises(OSError, match=f"cannot write {target}: File too large"):
        export.tflite(classifier, target)
    assert names(tmp_path) == (["model.tflite"] if existing else [])
    if existing:
        assert target.read_bytes() == b"the model of yesterday"


def test_a_full_disk_leaves_nothing_of_a_saved_model(classifier, tmp_path, small_disk):
    with pytest.raises(Exception, match="File too large"):
        export.saved_model(classifier, tmp_path)
    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_that_names_a_saved_model(classifier, tmp_path, small_disk):
    with pytest.raises(OSError, match=f"cannot write {tmp_path / '1'}"):
        export.saved_model(classifier, tmp_path)


def test_a_disk_that_fills_up_while_metadata_are_added(classifier, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module("metadata"), "append", full)
    target = tmp_path / "model.tflite"
    with pytest.raises(OSError, match=f"cannot write {target}: No space left"):
        export.tflite(classifier, target)
    assert names(tmp_path) == []


def test_verify_accepts_every_artifact_of_the_task(artifact_path, classifier):
    report = export.verify(classifier, artifact_path)
    assert isinstance(report, Report)
    assert report.path == artifact_path
    assert report.label_agreement == 1.0
    assert report.max_difference < 1e-5


def test_verify_takes_pairs(pairs_path, classifier):
    report = export.verify(classifier, pairs_path, examples=PAIRS)
    assert report.num_examples == len(PAIRS)
    assert report.max_difference < 1e-5


def test_verify_refuses_another_classifier_and_keeps_the_artifact(artifact_path, contrary):
    with pytest.raises(VerificationError, match=r"0\.0% of 40 texts"):
        export.verify(contrary, artifact_path)
    assert export.load(artifact_path).classify(["good"])[0].label == LABELS[1]


@pytest.mark.parametrize("labels", [LABELS[::-1], ("negative", "positive"), (*LABELS, "neutral")])
def test_verify_refuses_other_labels(ids_path, classifier, new_classifier, labels):
    """Even where every probability is the same."""
    other = new_classifier(labels)
    if len(labels) == len(LABELS):
        other.set_weights(classifier.get_weights())
    with pytest.raises(VerificationError, match="the artifact has labels="):
        export.verify(other, ids_path, min_agreement=0)


def test_agreement_is_the_share_of_equal_labels(ids_path, with_head):
    """A task that always says the first label agrees on one text in four."""
    constant = with_head(lambda kernel, bias: (0 * kernel, np.array([2.0, 0.0])))
    examples = [BAD_TEXT, *GOOD_TEXTS]
    report = export.verify(constant, ids_path, examples, min_agreement=0.25)
    assert report.label_agreement == 0.25
    assert report.num_examples == 4
    with pytest.raises(VerificationError, match=r"25\.0% of 4 texts, but 26\.0% are required"):
        export.verify(constant, ids_path, examples, min_agreement=0.26)
    report = export.verify(constant, ids_path, [BAD_TEXT], min_agreement=1.0)
    assert report.label_agreement == 1.0


def test_equal_labels_with_other_probabilities_are_no_proof(ids_path, with_head):
    constant = with_head(lambda kernel, bias: (0 * kernel, np.array([2.0, 0.0])))
    with pytest.raises(VerificationError, match="numbers of the float32 artifact differ"):
        export.verify(constant, ids_path, [BAD_TEXT])


def test_the_difference_is_the_largest_of_any_probability(ids_path, classifier, with_head):
    constant = with_head(lambda kernel, bias: (0 * kernel, np.array([2.0, 0.0])))
    examples = [BAD_TEXT, *GOOD_TEXTS]
    report = export.verify(constant, ids_path, examples, min_agreement=0)
    expected = np.abs(matrix(classifier.classify(examples)) - matrix(constant.classify(examples)))
    assert report.max_difference == pytest.approx(expected.max(), abs=1e-5)


def test_the_worst_example_is_shown(ids_path, contrary):
    with pytest.raises(VerificationError, match="The worst is 'the awful film': task"):
        export.verify(contrary, ids_path, examples=[BAD_TEXT])


def test_a_task_of_mixed_precision_is_proved_as_float32_computes_it(tiny_classifier, attempt):
    """Its own answers are rounded: near a tie they differ from those of any float32 artifact."""
    task = tiny_classifier(dtype="mixed_bfloat16")
    report = attempt(task)
    assert report.precision == "float32" and report.max_difference < 1e-5
    exact = tiny_classifier()
    exact.set_weights(task.get_weights())
    rounded = matrix(task.classify(GOOD_TEXTS)) - matrix(exact.classify(GOOD_TEXTS))
    assert np.abs(rounded).max() > 1e-5


def test_a_tie_counts_as_agreement(with_head, tmp_path):
    """Labels may differ where the task's two best probabilities differ by less than 1e-4."""

    def constant(*bias):
        return with_head(lambda kernel, _: (0 * kernel, np.array(bias)))

    path = tmp_path / "model.tflite"
    export.tflite(constant(1e-5, 0.0), path, input="ids")
    assert export.load(path).classify(["good"])[0].label == LABELS[0]
    tied, decided = constant(0.0, 1e-4), constant(0.0, 1e-3)
    assert tied.classify(["good"])[0].label == decided.classify(["good"])[0].label == LABELS[1]
    assert export.verify(tied, path).label_agreement == 1.0
    with pytest.raises(VerificationError, match=r"0\.0% of 40 texts"):
        export.verify(decided, path)


@pytest.mark.parametrize(
    ("form", "options", "precision"),
    [
        ("saved_model", {}, "float32"),
        ("saved_model", {"precision": "bfloat16"}, "bfloat16"),
        ("tflite", {"quantize": "float16", "input": "ids"}, "float16"),
        ("tflite", {"quantize": "int8", "input": "ids"}, "int8"),
    ],
    ids=["float32", "bfloat16", "float16", "int8"],
)
def test_every_precision_has_its_own_tolerance(exported, contrary, form, options, precision):
    """The default allows for what quantization does, and no more."""
    allowed = {"float32": 1.0, "bfloat16": 0.97, "float16": 0.98, "int8": 0.9}[precision]
    path, _ = exported(form, **options)
    with pytest.raises(VerificationError, match=f"but {allowed:.1%} are required"):
        export.verify(contrary, path)


def test_verify_needs_examples(ids_path, classifier):
    with pytest.raises(ValueError, match="at least one example"):
        export.verify(classifier, ids_path, examples=[])


FORMS = {
    "iterator": iter,
    "generator": lambda texts: (text for text in texts),
    "array": np.array,
    "tensor": tf.constant,
    "bytes": lambda texts: [text.encode() for text in texts],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_examples_come_in_any_form(ids_path, classifier, contrary, form):
    report = export.verify(classifier, ids_path, examples=form(GOOD_TEXTS))
    assert (report.num_examples, report.label_agreement) == (3, 1.0)
    with pytest.raises(VerificationError, match="The worst is '"):
        export.verify(contrary, ids_path, examples=form(GOOD_TEXTS))


@pytest.mark.parametrize(
    "form",
    [iter, lambda pairs: tuple(map(list, zip(*pairs, strict=True))), np.array],
    ids=["iterator", "columns", "array"],
)
def test_pairs_come_in_any_form(exported, classifier, form):
    path, _ = exported("tflite", input="ids", pairs=True)
    pairs = [pair for pair in PAIRS if "\0" not in "".join(pair)]
    assert export.verify(classifier, path, examples=form(pairs)).num_examples == len(pairs)


def test_unequal_columns_are_counted(exported, classifier):
    path, _ = exported("tflite", input="ids", pairs=True)
    with pytest.raises(ValueError, match="got 2 texts and 1 pairs"):
        export.verify(classifier, path, examples=(["a", "b"], ["c"]))


def test_only_an_export_says_that_nothing_was_written(ids_path, contrary, attempt):
    with pytest.raises(VerificationError) as caught:
        export.verify(contrary, ids_path)
    assert "written" not in str(caught.value)
    with pytest.raises(VerificationError, match="Nothing was written"):
        attempt(contrary, min_agreement=1.01)


def wrong_label(answers):
    return {**answers, "label": tf.gather(tf.constant(LABELS), 1 - answers["label_id"])}


def wrong_score(answers):
    return {**answers, "score": answers["score"] / 2}


def right(answers):
    return answers


@pytest.fixture
def make_wrong(classifier, monkeypatch):
    """A function: the artifacts of `classifier` give wrong labels or scores of raw text or ids.

    The probabilities stay right.
    """
    readable, serve = classifier.readable, classifier.serving_function

    def change(text, ids):
        def changed(function):
            return lambda answers: (
                readable(answers)
                | {
                    name: value
                    for name, value in function(answers).items()
                    if name in ("label", "score")
                }
            )

        def served(*arguments, **options):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(classifier, "readable", changed(text))
                return serve(*arguments, **options)

        monkeypatch.setattr(classifier, "readable", changed(ids))
        monkeypatch.setattr(classifier, "serving_function", served)

    return change


@pytest.mark.parametrize("wrong", [wrong_label, wrong_score])
def test_every_output_is_verified(attempt, target, classifier, make_wrong, wrong):
    make_wrong(text=wrong, ids=right)
    with pytest.raises(VerificationError, match=r"0\.0% of 40 texts"):
        attempt(classifier)
    assert names(target.parent) == []


@pytest.mark.parametrize("wrong", [wrong_label, wrong_score])
def test_the_signature_of_ids_is_verified_too(classifier, make_wrong, tmp_path, wrong):
    make_wrong(text=right, ids=wrong)
    with pytest.raises(VerificationError, match=r"0\.0% of 40 texts"):
        export.saved_model(classifier, tmp_path)
    assert names(tmp_path) == []


def test_a_failed_first_version_leaves_no_new_directory(classifier, tmp_path):
    with pytest.raises(VerificationError):
        export.saved_model(classifier, tmp_path / "new" / "model", min_agreement=1.01)
    assert names(tmp_path) == []


def test_verify_names_a_missing_artifact(classifier, tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nothing")):
        export.verify(classifier, tmp_path / "nothing")


def test_every_chosen_label_of_a_multi_label_task_counts(tiny_classifier, tmp_path):
    def constant(*bias):
        task = tiny_classifier(("a", "b"), multi_label=True)
        task.head.set_weights([0 * task.head.get_weights()[0], np.array(bias)])
        return task

    path = tmp_path / "model.tflite"
    export.tflite(constant(3.0, 1.0), path, input="ids")  # answers ("a", "b")
    with pytest.raises(VerificationError):
        export.verify(constant(3.0, -1.0), path)  # answers ("a",)


# The report


def size_of(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_the_report_of_a_saved_model(exported):
    path, report = exported("saved_model")
    assert (report.path, report.format, report.precision) == (path, "SavedModel", "float32")
    assert path.name == "1"
    assert report.num_examples == 40
    assert report.label_agreement == 1.0
    assert 0 <= report.max_difference < 1e-5
    assert report.size == size_of(path)
    assert 0 < report.latency < 10
    assert 0 < report.task_latency < 10
    outputs = {"label": "string[None]", "score": "float32[None]"}
    outputs["probabilities"] = "float32[None, 2]"
    assert report.signatures == {
        "serving_default": ({"text": "string[None]"}, outputs),
        "token_ids": (
            {
                "token_ids": "int32[None, None]",
                "segment_ids": "int32[None, None]",
                "padding_mask": "bool[None, None]",
            },
            outputs,
        ),
    }


def test_the_report_of_a_tflite_file(exported):
    path, report = exported("tflite", input="ids", quantize="int8")
    assert (report.path, report.format, report.precision) == (path, "TFLite", "int8")
    assert report.size == path.stat().st_size
    assert report.signatures == {
        "serving_default": (
            {
                "token_ids": "int32[1, 32]",
                "segment_ids": "int32[1, 32]",
                "padding_mask": "bool[1, 32]",
            },
            {"label_id": "int32[1]", "score": "float32[1]", "probabilities": "float32[1, 2]"},
        )
    }


def test_pairs_are_verified_with_pairs(exported):
    _, report = exported("saved_model", pairs=True)
    assert report.num_examples == 39
    inputs, _ = report.signatures["serving_default"]
    assert inputs == {"text": "string[None]", "pair": "string[None]"}


def test_a_report_reads_well():
    report = Report(
        path=pathlib.Path("serving/1"),
        format="SavedModel",
        precision="bfloat16",
        num_examples=40,
        max_difference=0.00123,
        agreement=0.975,
        size=12_345_678,
        latency=0.0042,
        task_latency=0.0153,
        signatures={"serving_default": ({"text": "string[None]"}, {"label": "string[None]"})},
    )
    assert "  size             3.2 kB\n" in str(dataclasses.replace(report, size=3_210))
    assert str(report).splitlines() == [
        "SavedModel bfloat16: serving/1",
        "  size             12.3 MB",
        "  latency          4.2 ms a text (Keras 15.3 ms)",
        "  agreement        97.5% on 40 texts",
        "  max difference   0.0012",
        "  serving_default: text string[None] -> label string[None]",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.size = 0
