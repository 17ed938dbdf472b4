"""`atomic_path`: a target is either as it was or complete."""

import errno
import os
import resource
import subprocess
import sys
import threading

import pytest

from lingxi import files
from lingxi.files import atomic_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_directory(path, text):
    path.mkdir()
    (path / "a.txt").write_text(text)


def test_a_file_appears_when_the_block_succeeds(tmp_path):
    target = tmp_path / "new.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent.parent == tmp_path  # the same disk, so that the rename is atomic
    assert target.read_text() == "whole"
    assert names(tmp_path) == ["new.txt"]


def test_a_file_is_replaced(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    with atomic_path(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["x.txt"]


def test_a_directory_is_replaced_with_all_that_it_held(tmp_path):
    target = tmp_path / "model"
    write_directory(target, "old")
    (target / "stale.txt").touch()
    with atomic_path(target) as temporary:
        write_directory(temporary, "new")
        assert (target / "a.txt").read_text() == "old"
    assert names(target) == ["a.txt"]
    assert (target / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["model"]


def test_parents_are_made(tmp_path):
    with atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("deep")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "deep"


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), OSError(errno.EIO, "io")])
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_a_failure_leaves_everything_as_it_was(tmp_path, existing, error):
    target = tmp_path / "model"
    if existing:
        write_directory(target, "old")

    with pytest.raises(type(error)), atomic_path(target) as temporary:
        write_directory(temporary, "half")
        raise error
    assert names(tmp_path) == (["model"] if existing else [])
    if existing:
        assert (target / "a.txt").read_text() == "old"


def test_a_block_that_writes_nothing_leaves_the_old_directory(tmp_path):
    target = tmp_path / "model"
    write_directory(target, "old")
    with pytest.raises(OSError), atomic_path(target):
        pass
    assert names(tmp_path) == ["model"]
    assert (target / "a.txt").read_text() == "old"


def test_a_rename_that_fails_leaves_the_old_directory(tmp_path, monkeypatch):
    target, replace = tmp_path / "model", os.replace
    write_directory(target, "old")

    def fail(source, destination):
        if os.fspath(destination) == os.fspath(target) and (source / "a.txt").read_text() == "new":
            raise OSError(errno.EIO, "the disk fails here")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    with pytest.raises(OSError, match=f"cannot write {target}"), atomic_path(target) as temporary:
        write_directory(temporary, "new")
    assert names(tmp_path) == ["model"]
    assert (target / "a.txt").read_text() == "old"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two directories at once")
def test_a_directory_is_there_at_every_moment(tmp_path):
    target, seen, done = tmp_path / "model", [], threading.Event()
    write_directory(target, "0")

    def look():
        while not done.is_set():
            seen.append(target.is_dir())

    watcher = threading.Thread(target=look)
    watcher.start()
    for index in range(300):
        with atomic_path(target) as temporary:
            write_directory(temporary, str(index))
    done.set()
    watcher.join()
    assert (target / "a.txt").read_text() == "299"
    assert len(seen) > 300 and all(seen)


def test_a_parent_that_is_a_file_is_an_error_that_names_the_target(tmp_path):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "model"
    with (
        pytest.raises(OSError, match=f"cannot write {target}: .*choose a writable place"),
        atomic_path(target),
    ):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["file"]


def test_an_error_of_the_operating_system_keeps_its_number(tmp_path):
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert f"cannot write {tmp_path / 'x'}: No space left" in str(caught.value)


def test_a_full_disk_is_an_error_that_names_the_target(tmp_path):
    """A limit on the size of files stands in for the end of the disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    target = tmp_path / "big"
    code = "import sys; from lingxi.files import atomic_path\n"
    code += "with atomic_path(sys.argv[1]) as path: path.write_bytes(bytes(5000))"
    result = subprocess.run(
        [sys.executable, "-c", code, target], preexec_fn=limit, capture_output=True, text=True
    )
    assert f"cannot write {target}: File too large" in result.stderr.splitlines()[-1]
    assert names(tmp_path) == []
