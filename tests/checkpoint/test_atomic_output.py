"""Output appears whole or not at all: failures, kills, full disks, files in the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from archtool.checkpoint.atomic import atomic_dir, atomic_file, guard_disk, require_free
from archtool.checkpoint.writer import TensorHeader, encode_header
from archtool.errors import ResourceError, UsageError

REPO = Path(__file__).parents[2]


def run_python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], env=env, capture_output=True, text=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(target: Path, text: str, force: bool = False) -> None:
    with atomic_dir(target, force) as folder:
        assert folder.parent == target.parent
        (folder / "sub").mkdir()
        (folder / "sub/a").write_text(text)


def test_folder_appears_when_complete(tmp_path):
    target = tmp_path / "deep/out"
    with atomic_dir(target) as folder:
        (folder / "a").write_text("x")
        assert not target.exists()
    assert names(target) == ["a"] and names(target.parent) == ["out"]


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out/sub/a").read_text() == "new" and names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("force", [False, True])
def test_failure_leaves_what_was_there(tmp_path, error, force):
    if force:
        fill(tmp_path / "out", "old")
    with pytest.raises(error), atomic_dir(tmp_path / "out", force) as folder:
        (folder / "half").write_text("x")
        raise error
    assert names(tmp_path) == (["out"] if force else [])
    assert not force or (tmp_path / "out/sub/a").read_text() == "old"


def test_folder_with_content_needs_force(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(UsageError) as caught:
        fill(tmp_path / "out", "new")
    assert "--force" in caught.value.hint
    assert (tmp_path / "out/sub/a").read_text() == "old"
    fill(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out/sub/a").read_text() == "new" and names(tmp_path) == ["out"]


def test_old_folder_is_readable_until_the_new_one_is_complete(tmp_path):
    fill(tmp_path / "out", "old")
    with atomic_dir(tmp_path / "out", force=True) as folder:
        (folder / "copy").write_text((tmp_path / "out/sub/a").read_text())
    assert names(tmp_path / "out") == ["copy"]


def test_target_filled_meanwhile_is_not_lost(tmp_path):
    with pytest.raises(UsageError), atomic_dir(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/theirs").write_text("x")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["theirs"]


@pytest.mark.parametrize("target", ["file", "file/below", "file/below/deeper"])
@pytest.mark.parametrize("force", [False, True])
def test_file_in_the_way_is_refused(tmp_path, target, force):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ResourceError, match="where a folder must be") as caught:
        fill(tmp_path / target, "new", force)
    assert caught.value.exit_code == 5
    assert (tmp_path / "file").read_text() == "kept" and names(tmp_path) == ["file"]


def test_force_never_replaces_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "out/here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out/here")
    with pytest.raises(UsageError, match="is not replaced"):
        fill(tmp_path / "out", "new", force=True)
    assert names(tmp_path / "out") == ["here"]


def test_symlinked_target_keeps_its_link(tmp_path):
    (tmp_path / "disk/out").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk/out")
    with atomic_dir(tmp_path / "link") as folder:
        (folder / "a").write_text("x")
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "disk/out") == ["a"]


KILL_CODE = """
import os, signal, sys
from pathlib import Path
from archtool.checkpoint.atomic import atomic_dir, atomic_file
maker = atomic_dir if sys.argv[2] == "dir" else atomic_file
with maker(Path(sys.argv[1])) as place:
    (place / "half" if sys.argv[2] == "dir" else place).write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["dir", "file"])
def test_what_a_killed_process_left_is_cleaned_up(tmp_path, kind):
    done = run_python(KILL_CODE, tmp_path / "out", kind)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(".out.tmp-")
    with atomic_dir(tmp_path / "other"):
        assert len(names(tmp_path)) == 2  # another target's leftovers are not touched
    fill(tmp_path / "out", "new")
    assert names(tmp_path) == ["other", "out"]


SWAP_KILL_CODE = """
import os, signal, sys
from pathlib import Path
from archtool.checkpoint import atomic
real = os.rename
def rename(source, target):
    if ".tmp-" in str(source):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.rename = rename
with atomic.atomic_dir(Path(sys.argv[1]), force=True) as folder:
    (folder / "new").write_text("x")
"""


def test_folder_moved_away_by_a_killed_process_comes_back(tmp_path):
    fill(tmp_path / "out", "old")
    assert run_python(SWAP_KILL_CODE, tmp_path / "out").returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="not empty"):
        fill(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"] and (tmp_path / "out/sub/a").read_text() == "old"


def test_a_live_process_keeps_its_temporary_folder(tmp_path):
    with atomic_dir(tmp_path / "out") as first:
        (first / "a").write_text("first")
        with atomic_dir(tmp_path / "out") as second:
            assert first.exists() and second != first
            (second / "b").write_text("second")
        (tmp_path / "out/b").unlink()
    assert names(tmp_path / "out") == ["a"]


def test_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "f"
    with atomic_file(target) as path:
        path.write_text("one")
    with pytest.raises(ValueError, match="stop"), atomic_file(target) as path:
        path.write_text("half")
        raise ValueError("stop")
    assert target.read_text() == "one" and names(tmp_path) == ["f"]
    with pytest.raises(ResourceError, match="is a folder"), atomic_file(tmp_path):
        pass


FULL_CODE = """
import resource, sys
from pathlib import Path
from archtool.checkpoint.atomic import atomic_dir
from archtool.checkpoint.writer import TensorHeader, plan_shards, write_shards
from archtool.errors import ResourceError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
headers = [TensorHeader("w", "U8", (int(sys.argv[2]),))]
try:
    with atomic_dir(Path(sys.argv[1])) as folder:
        write_shards(folder, plan_shards(headers), lambda name: [bytes(headers[0].nbytes)], {})
except ResourceError as error:
    print(error.what, error.hint)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("nbytes", [120_000, 5_000_000])
def test_full_disk_is_a_resource_error_and_leaves_nothing(tmp_path, nbytes):
    done = run_python(FULL_CODE, tmp_path / "out", str(nbytes))
    assert done.returncode == 5, done.stderr
    size_bytes = nbytes + len(encode_header([TensorHeader("w", "U8", (nbytes,))], {}))
    assert "cannot be written" in done.stdout and "ulimit" in done.stdout
    assert f"it needs {size_bytes:,} bytes" in done.stdout
    assert names(tmp_path) == []


def test_require_free_names_both_sizes(tmp_path):
    require_free(tmp_path / "not/yet", 1)
    with pytest.raises(ResourceError, match=r"needs 1,000,000,000,000,000,000 bytes, but only [\d,]+ are free"):
        require_free(tmp_path / "not/yet", 10**18)


def test_guard_disk_leaves_other_errors_alone(tmp_path):
    with pytest.raises(FileNotFoundError), guard_disk(tmp_path):
        (tmp_path / "missing").read_text()


def test_name_too_long_is_a_resource_error(tmp_path):
    with pytest.raises(ResourceError, match="too long"):
        fill(tmp_path / ("n" * 250), "x")
