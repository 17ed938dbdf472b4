"""Put a classifier into a web page and serve it: https://www.npmjs.com/package/@mediapipe/tasks-text.

    make quickstart        # trains the classifier of live-stream comments
    .venv/bin/python examples/web_demo/make.py
    .venv/bin/python examples/web_demo/make.py --model runs/mine --port 9000

Node's npm fetches MediaPipe once. The site is a folder of plain files that any web server serves.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import functools
import http.server
import pathlib
import shutil
import subprocess
import sys
import tempfile

PAGE = pathlib.Path(__file__).parent
MEDIAPIPE = "@mediapipe/tasks-text@1.0.1"
MODEL = "comments.tflite"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="runs/quickstart/preset", help="a trained TextClassifier"
    )
    parser.add_argument("--site", default="runs/web_demo", type=pathlib.Path, help="folder to fill")
    parser.add_argument("--port", default=8000, type=int)
    options = parser.parse_args()
    if not pathlib.Path(options.model).is_dir():
        sys.exit(
            f"there is no classifier at {options.model}: run `make quickstart`, or --model DIR"
        )

    copy_page(options.site)
    copy_mediapipe(options.site)
    export_model(options.model, options.site)
    with serve(options.site, options.port) as server:
        print(f"\nhttp://localhost:{server.server_port} (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def copy_page(site):
    site.mkdir(parents=True, exist_ok=True)
    for name in ("index.html", "style.css", "app.js"):
        shutil.copy(PAGE / name, site)


def copy_mediapipe(site):
    """Its module and its WebAssembly, with and without SIMD."""
    if (site / "mediapipe").is_dir():
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run([*command, "--prefix", folder, MEDIAPIPE], check=True, stdout=sys.stderr)
        package = pathlib.Path(folder) / "node_modules" / "@mediapipe" / "tasks-text"
        (site / "mediapipe").mkdir()
        shutil.copy(package / "text_bundle.mjs", site / "mediapipe")
        wasm = shutil.ignore_patterns("*_module_*")  # those are for workers
        shutil.copytree(package / "wasm", site / "mediapipe" / "wasm", ignore=wasm)


def export_model(preset, site):
    import lingxi

    classifier = lingxi.tasks.TextClassifier.from_preset(preset)
    report = lingxi.export.tflite(classifier, site / MODEL, quantize="int8", input="mediapipe")
    print(report)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, of the types that browsers insist on."""

    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *arguments):
        pass


def serve(site, port):
    """A server of the folder on this machine only; `serve_forever` runs it."""
    handler = functools.partial(Handler, directory=str(site))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    main()
