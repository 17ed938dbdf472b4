"""The servers of `examples/serving` under load: latency and throughput of Ray Serve and BentoML.

MiniLM with a head of random weights; clients that each ask one sentence of SST-2 after the other.
Beside them the same SavedModel called by as many threads of one process, without HTTP or batches.
"""

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from absl import app, flags
from common import describe_machine, sst2

CLIENTS = flags.DEFINE_list("clients", ["1", "8", "32"], "how many at a time")
SECONDS = flags.DEFINE_float("seconds", 20.0, "of each measurement")
REPLICAS = flags.DEFINE_integer("replicas", 2, "processes of a server")
SIDES = flags.DEFINE_list("sides", ["direct", "ray", "bentoml"], "what to measure")
EXAMPLES = pathlib.Path(__file__).parents[1] / "examples" / "serving"
PATIENCE = 180  # seconds, until a server answers
EXPORT = """
import sys, keras, lingxi
keras.utils.set_random_seed(1)
classifier = lingxi.tasks.TextClassifier.from_preset(
    "minilm_l6_en_uncased", labels=["negative", "positive"], max_length=128
)
lingxi.export.saved_model(classifier, sys.argv[1])
"""


def main(_):
    print(describe_machine())
    texts, _ = sst2("dev")
    with tempfile.TemporaryDirectory() as folder:
        models = os.path.join(folder, "models")
        subprocess.run([sys.executable, "-c", EXPORT, models], check=True)
        for side in SIDES.value:
            asking = direct(models) if side == "direct" else served(side, models)
            with asking as new_client:
                measure(new_client, texts, 1, SECONDS.value / 4)  # warm-up
                for clients in map(int, CLIENTS.value):
                    seconds, refused, took = measure(new_client, texts, clients, SECONDS.value)
                    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]) * 1e3
                    print(
                        f"{side:8} {clients:3} clients: {len(seconds) / took:7.1f} texts/s, p50 "
                        f"{p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, {refused} refused",
                        flush=True,
                    )


def measure(new_client, texts, clients, seconds):
    """Seconds of each answered request, how many were refused, and seconds that all took."""
    answered, refused = [], []
    start = time.perf_counter()

    def ask_on(offset):
        ask = new_client()
        for text in itertools.islice(itertools.cycle(texts), offset, None):
            before = time.perf_counter()
            if before - start > seconds:
                return
            is_answered = ask(text)
            (answered if is_answered else refused).append(time.perf_counter() - before)

    threads = [threading.Thread(target=ask_on, args=[17 * n]) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered, len(refused), time.perf_counter() - start


@contextlib.contextmanager
def direct(models):
    sys.path.insert(0, str(EXAMPLES))
    from classifier import Classifier

    classifier = Classifier(models)
    yield lambda: lambda text: bool(classifier([text]))


@contextlib.contextmanager
def served(side, models):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = {
        "ray": f"ray_serve.py --model {models} --replicas {REPLICAS.value} --port {port}",
        "bentoml": f"-m bentoml serve bentoml_service:Comments --port {port}",
    }[side]
    path = {"ray": "/", "bentoml": "/classify"}[side]
    variables = {"MODEL": models, "REPLICAS": str(REPLICAS.value), "RAY_USAGE_STATS_ENABLED": "0"}
    variables["BENTOML_DO_NOT_TRACK"] = "true"
    process = subprocess.Popen(
        [sys.executable, *command.split()],
        cwd=EXAMPLES,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def new_client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def ask(text):
            body = json.dumps({"texts": [text]})
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            return response.status == http.client.OK

        return ask

    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(new_client()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{side} does not answer; run {command} in {EXAMPLES}")
            time.sleep(0.5)
        yield new_client
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _answers(ask):
    try:
        return ask("warm-up")
    except OSError:
        return False


if __name__ == "__main__":
    app.run(main)
