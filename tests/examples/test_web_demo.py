"""The web demo in a real browser: what it says of a typed comment is what Keras says."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import threading

import pytest

from lingxi import export
from tests.conftest import ROOT

pytest.importorskip("mediapipe", reason="MediaPipe is not installed (extra mobile)")
pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PLAYWRIGHT = "playwright-core@1.64"
LABELS = ["bad", "good", "neither"]
COMMENTS = [
    "what a lovely film",
    "the story was dull, awful and cold",
    "who is that actor?",
    "is it on at night?",
    "Good MUSIC!!! fine 3/4 actors -- and a (very) nice story.",
    "film " * 60 + "good",
]


@pytest.fixture(scope="module")
def make():
    """`examples/web_demo/make.py`."""
    path = ROOT / "examples" / "web_demo" / "make.py"
    spec = importlib.util.spec_from_file_location("web_demo", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def playwright(tmp_path_factory):
    """The folder of playwright-core."""
    missing = [name for name in ("node", "npm") if not shutil.which(name)]
    missing += [] if CHROMIUM else ["chromium"]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this machine")
    folder = tmp_path_factory.mktemp("playwright")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, PLAYWRIGHT]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if result.returncode:
        pytest.skip(f"npm cannot install playwright-core: {result.stderr.strip()[-300:]}")
    return folder / "node_modules" / "playwright-core"


@pytest.fixture(scope="module")
def classifier(tiny_classifier):
    return tiny_classifier(LABELS)


@pytest.fixture(scope="module")
def site(make, classifier, playwright, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    make.copy_page(site)
    make.copy_mediapipe(site)
    path = site / make.MODEL
    export.tflite(classifier, path, input="mediapipe", examples=COMMENTS)
    return site


@contextlib.contextmanager
def served(make, site):
    """The address of a server of the folder."""
    with make.serve(site, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def visit(make, site, playwright, texts=(), screenshot=""):
    """What the page says of texts that are typed into it."""
    with served(make, site) as address:
        script = ROOT / "tests" / "examples" / "browser.cjs"
        command = ["node", script, playwright, address, json.dumps(texts), screenshot]
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "CHROMIUM": CHROMIUM},
        )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_the_page_gives_the_answers_of_keras(make, site, playwright, classifier, tmp_path):
    screenshot = os.environ.get("LINGXI_SCREENSHOT", "")
    found = visit(make, site, playwright, COMMENTS, screenshot)
    wanted = classifier.classify(COMMENTS)
    assert len({answer.label for answer in wanted}) > 1, "these comments compare too little"
    assert [answer["label"] for answer in found["answers"]] == [a.label for a in wanted]
    for answer, expected in zip(found["answers"], wanted, strict=True):
        assert answer["scores"] == pytest.approx(expected.probabilities, abs=1e-4)
        assert re.fullmatch(r"\d+ ms", answer["latency"])
        assert answer["size"] == f"{(site / make.MODEL).stat().st_size / 1e6:.1f} MB"
    assert not found["isTooWide"]
    assert found["foreign"] == [], "the page talked to somebody else"


@pytest.mark.parametrize("missing", ["comments.tflite", "mediapipe/wasm/text_wasm_internal.wasm"])
def test_what_is_missing_is_said(missing, make, site, playwright, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / missing).unlink()
    found = visit(make, tmp_path / "site", playwright)
    assert re.search(rf"has no \S*{re.escape(missing)} \(404", found["error"])
    assert "make.py" in found["error"]


def test_the_snippet_of_the_documentation_runs(make, site, playwright, classifier, tmp_path):
    """The JavaScript of docs/on_device.md in place of the page's own."""
    page = (ROOT / "docs" / "on_device.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "app.js").write_text(
        f'{snippet}\ndocument.getElementById("error").hidden = false;\n', encoding="utf-8"
    )
    found = visit(make, tmp_path / "site", playwright)
    (expected,) = classifier.classify(["what a lovely stream"])
    label, score = next(m.split(" ") for m in found["messages"] if m.split(" ")[0] in LABELS)
    assert label == expected.label
    assert float(score) == pytest.approx(expected.score, abs=1e-4)
