"""`lingxi tune` on a table."""


def test_a_search_and_its_best_task(lingxi, model, table):
    data = ("--data", table, "--validation", table, "--preset", model, "--output", "search")
    outcome = lingxi("tune", *data, "--trials", 2, "--max_length", 16, "--seed", 1)
    assert outcome.status == 0, outcome.err
    assert "trial 1 of 2: val_accuracy" in outcome.err
    assert "The best of 2 trials:" in outcome.out
    assert lingxi("predict", "--model", "search/best", "a lovely film").status == 0

    outcome = lingxi("tune", *data, "--trials", 2, "--max_length", 16, "--seed", 1)
    assert outcome.status == 0
    assert "trial" not in outcome.err
    assert "The best of 2 trials:" in outcome.out


def test_a_search_needs_something_to_compare_by(lingxi, model, table):
    outcome = lingxi("tune", "--data", table, "--preset", model, "--output", "search")
    assert outcome.status == 2
    assert "--validation or --split" in outcome.err
