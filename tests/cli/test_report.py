"""`lingxi report` of what `lingxi train` left."""


def test_a_training_and_its_report(lingxi, model, table, tmp_path):
    data = ("--data", table, "--validation", table, "--preset", model, "--output", "run")
    outcome = lingxi("train", *data, "--epochs", 2, "--batch_size", 4, "--max_length", 16)
    assert outcome.status == 0, outcome.err
    assert "examples/s: " in outcome.out
    assert outcome.out.splitlines()[-1].split() == ["lingxi", "report", "run"]

    outcome = lingxi("report", "run")
    assert (outcome.status, outcome.out) == (0, "Wrote run/report.html\n")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    for part in ("macro F1", "Confusions", "Calibration", "Worst examples", str(table)):
        assert part in page
    assert "they call it &quot;music&quot;, not good" in page
    assert lingxi("report", "run", "--output", "deep/page.html").status == 0
    assert (tmp_path / "deep" / "page.html").read_text("utf-8") == page


def test_what_is_no_run_fails_in_one_line(lingxi, model):
    outcome = lingxi("report", model)
    assert outcome.status == 1
    assert "has no run.json, so it is not the directory of a run" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert lingxi("report").status == 2
