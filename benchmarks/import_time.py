"""How long `import lingxi` takes in a fresh process, and that it leaves TensorFlow alone."""

import statistics
import subprocess
import sys

PROGRAM = """
import sys, time
start = time.perf_counter()
import lingxi
print(time.perf_counter() - start, "tensorflow" in sys.modules)
"""
LIMIT = 0.3


def main():
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    seconds = statistics.median(float(run.stdout.split()[0]) for run in runs)
    assert all(run.stdout.split()[1] == "False" for run in runs), "TensorFlow was imported"
    print(f"import lingxi: {seconds * 1e3:.1f} ms (limit {LIMIT * 1e3:.0f} ms)")


if __name__ == "__main__":
    main()
