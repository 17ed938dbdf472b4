"""Several processes of one command on this machine: started together, watched, ended together."""

import atexit
import contextlib
import ctypes
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 3.0  # seconds in which others may say what is wrong
LAST_LINES = 20  # of what a process wrote before it failed
_SIGNALS = signal.SIGHUP, signal.SIGTERM
_INTERRUPTED = -1  # in place of the number of a process
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def launch(commands, advice):
    """Run a command in each of several processes until all have ended, or one has failed.

    The first has this terminal. Of the others only the last lines on stderr are shown, if one
    fails. Ctrl-C goes to the first; when it ends, so do the others.

    Args:
        commands: `(arguments, environment)` of each.
        advice: how to go on after a failure, the last sentence of its message.

    Returns:
        The exit status of the first process, which has said what was wrong if it is not 0.

    Raises:
        ChildProcessError: a process was killed, or failed without the first saying why.
    """
    ended = queue.SimpleQueue()
    with tempfile.TemporaryDirectory() as logs, _raised(_SIGNALS), _told(ended):
        processes = []
        try:
            for number, (arguments, environment) in enumerate(commands):
                log = os.path.join(logs, str(number))
                processes.append(_start(arguments, environment, log if number else None))
            for number, process in enumerate(processes):
                watch = threading.Thread(target=_watch, args=(number, process, ended), daemon=True)
                watch.start()
            failed, status = _first_failure(processes, ended)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait()
        if failed is None or processes[0].returncode > 0:
            return processes[0].returncode
        if failed:
            _show_log(os.path.join(logs, str(failed)), failed)
    raise ChildProcessError(
        f"process {failed} of {len(processes)} {_ending(status)}; the others were ended. {advice}"
    )


def free_address():
    """An address of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def among_processes(number):
    """Around what several processes do together: that another one has ended is told as that.

    It waits first: a launcher, which ends this process too, knows which one and why.

    Args:
        number: of processes; 1 leaves everything as it is.
    """
    try:
        yield
    except BaseException as error:
        if number > 1:  # JAX would wait at the end, for minutes, until the others end too
            interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
            atexit.register(_leave, 128 + signal.SIGINT if interrupted else 1)
        if number == 1 or type(error).__name__ != "JaxRuntimeError":
            raise
        time.sleep(2 * PATIENCE)
        raise ChildProcessError(
            "the processes of this training can no longer work together; if another one has ended, "
            f"the reason is there. JAX says: {str(error).splitlines()[0]}"
        ) from error


def _leave(status):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _start(arguments, environment, log):
    with open(log or os.devnull, "wb") as file:
        return subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if log else None,
            stderr=file if log else None,
            process_group=0,  # Ctrl-C reaches us alone
            preexec_fn=_end_with_parent,
        )


def _end_with_parent():
    """Have the system end this process should the launcher be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


@contextlib.contextmanager
def _raised(signals):
    """Have signals that end a process raise SystemExit, so that it can end others first."""

    def end(number, frame):
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _told(ended):
    """Have the first Ctrl-C put a message among those of ended processes, a second one raise.

    Raised wherever Python happens to be, the first could get lost.
    """

    def tell(number, frame):
        signal.signal(signal.SIGINT, before)
        ended.put((_INTERRUPTED, 0))

    before = signal.signal(signal.SIGINT, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _watch(number, process, ended):
    ended.put((number, process.wait()))


def _first_failure(processes, ended):
    """Number and status of the process that failed first, or two times None."""
    running = set(range(len(processes)))
    while running:
        number, status = ended.get()
        if number == _INTERRUPTED:
            processes[0].send_signal(signal.SIGINT)
            continue
        running.remove(number)
        if status > 0 and number and 0 in running:
            _wait_for_first(ended)  # what is wrong may be wrong with all
        if status:
            return number, status
    return None, None


def _wait_for_first(ended):
    end = time.monotonic() + PATIENCE
    with contextlib.suppress(queue.Empty):
        while ended.get(timeout=max(end - time.monotonic(), 0.0))[0]:
            pass


def _show_log(path, number):
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log.read().splitlines()[-LAST_LINES:]:
            print(f"[process {number}] {line}", file=sys.stderr)


def _ending(status):
    if status > 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    hint = ", as the system does where memory is full" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
