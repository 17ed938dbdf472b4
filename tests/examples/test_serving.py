"""`examples/serving`: real servers on loopback, asked by several clients at a time."""

import concurrent.futures
import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from lingxi import export
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

FOLDER = ROOT / "examples" / "serving"
ENGINES = {"ray": ("ray.serve", 503), "bentoml": ("bentoml", 429)}  # package; status of a refusal
CLIENTS, CROWD = 4, 64  # at a time, of which a server takes all, and not
LOOK_EVERY = 2  # seconds, of `classifier.py`
STARTED, CHANGED = 180, 60  # seconds, at most, until a server answers, and by another version
TEXTS = [
    "a lovely film",
    "",
    "the story was dull and cold",
    "École naïve Привет 你好 👍🏽👩‍👩‍👧",
    "这家店的外卖送得很快",
    "the film is " * 300 + "awful",
    "a tab\tand a zero \0 byte",
    "   ",
]
BAD = [
    b"not JSON",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"texts": "a text"}',
    b'{"texts": []}',
    b'{"texts": ["good", 1]}',
    b'{"texts": ["good", null]}',
    b'{"texts": ["good", "\\ud800"]}',
    json.dumps({"texts": ["good", "x" * 10_001]}).encode(),
    json.dumps({"texts": ["good"] * 33}).encode(),
]


class Server:
    """A process that serves the models of a directory."""

    def __init__(self, engine, models, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "ray_serve.py", "--model", models, "--port", str(port)]
        command += ["--in_flight", "4", "--queue", "4", "--wait", "0.1"]
        self.url = f"http://127.0.0.1:{port}/"
        if engine == "bentoml":
            command = [sys.executable, "-m", "bentoml", "serve", "bentoml_service:Comments"]
            command += ["--host", "127.0.0.1", "--port", str(port)]
            self.url += "classify"
        environment = os.environ | {
            "MODEL": str(models),
            "IN_FLIGHT": "8",
            "RAY_USAGE_STATS_ENABLED": "0",
            "BENTOML_DO_NOT_TRACK": "true",
            "BENTOML_HOME": str(folder / "bentoml"),
        }
        self.refused = ENGINES[engine][1]
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=FOLDER,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, texts):
        """Status and answer to the texts, or to a body of bytes."""
        body = texts if isinstance(texts, bytes) else json.dumps({"texts": texts}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ask_all(self, requests, clients=CLIENTS):
        """The same for each of several, as many at a time as there are clients."""
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            return list(pool.map(self.ask, requests))

    def wait(self):
        """Until it answers."""
        for _ in range(STARTED * 2):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(OSError):
                if self.ask(["warm-up"])[0] == 200:
                    return
            time.sleep(0.5)
        raise AssertionError(f"no answer after {STARTED} s: {self.log.read_text()[-3000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def tasks(tiny_classifier):
    """A classifier, and one that says the opposite."""
    first, second = tiny_classifier(), tiny_classifier()
    kernel, bias = second.head.get_weights()
    second.head.set_weights([-kernel, -bias])
    return first, second


@pytest.fixture(scope="module", params=ENGINES)
def server(request, tasks, tmp_path_factory):
    package, _ = ENGINES[request.param]
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        pytest.skip(f"needs the extra `{request.param}`")
    folder = tmp_path_factory.mktemp(request.param)
    for name, task in zip(("models", "later"), tasks, strict=True):
        export.saved_model(task, folder / name, version=1, examples=TEXTS)
    server = Server(request.param, folder / "models", folder)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def answers(task, texts):
    return [
        {"label": a.label, "score": pytest.approx(a.score, abs=1e-4)} for a in task.classify(texts)
    ]


def test_raw_strings_get_the_answers_of_keras(server, tasks):
    requests = [TEXTS, *([text] for text in TEXTS), *(TEXTS[i : i + 3] for i in range(6))]
    for texts, (status, found) in zip(requests, server.ask_all(requests), strict=True):
        assert (status, found) == (200, answers(tasks[0], texts))


def test_a_bad_request_leaves_its_neighbours_alone(server, tasks):
    requests = list(itertools.chain(*zip(BAD, itertools.repeat(TEXTS))))
    found = server.ask_all(requests)
    assert [status for status, _ in found[::2]] == [400] * len(BAD)
    assert all("error" in message for _, message in found[::2])
    assert found[1::2] == [(200, answers(tasks[0], TEXTS))] * len(BAD)


def test_overload_is_refused_at_once(server, tasks):
    requests = [[text] * 32 for text in TEXTS] * (CROWD // len(TEXTS))
    start = time.perf_counter()
    found = server.ask_all(requests, CROWD)
    assert time.perf_counter() - start < 20
    statuses = [status for status, _ in found]
    assert set(statuses) == {200, server.refused}
    assert statuses.count(server.refused) >= CROWD // 4
    wanted = {text: answers(tasks[0], [text] * 32) for text in TEXTS}
    for texts, (status, answer) in zip(requests, found, strict=True):
        assert status != 200 or answer == wanted[texts[0]]
    assert server.ask(TEXTS) == (200, answers(tasks[0], TEXTS)), "it has not recovered"


def test_a_broken_version_is_not_served(server, tasks):
    broken = server.log.parent / "models" / "9"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no model")
    end = time.monotonic() + 2 * LOOK_EVERY
    while time.monotonic() < end:
        assert server.ask(TEXTS) == (200, answers(tasks[0], TEXTS))
    shutil.rmtree(broken)
    assert "the version before goes on" in server.log.read_text()


def test_a_new_version_drops_no_request(server, tasks):
    folder = server.log.parent
    old, new = (answers(task, TEXTS) for task in tasks)

    def asked_until(wanted):
        """What clients get until all of their last requests were answered so."""
        found, end = [], time.monotonic() + CHANGED
        while [answer for _, answer in found[-10 * CLIENTS :]] != [wanted] * 10 * CLIENTS:
            assert time.monotonic() < end, server.log.read_text()[-3000:]
            found += server.ask_all([TEXTS] * 5 * CLIENTS)
        return found

    asked_until(old)
    (folder / "later" / "1").rename(folder / "models" / "2")
    found = asked_until(new)
    (folder / "models" / "2").rename(folder / "later" / "1")  # and back again
    found += asked_until(old)
    assert {status for status, _ in found} == {200}
    assert all(answer in (old, new) for _, answer in found)
