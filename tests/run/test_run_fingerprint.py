import os

from archtool.run.fingerprint import WHOLE_BYTES, content_hash, differing


def test_folders_are_hashed_by_names_and_content(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("1")
    same = content_hash(tmp_path / "a")
    assert same == content_hash(tmp_path / "b") and same.startswith("sha256:")
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "y")
    assert content_hash(tmp_path / "b") != same


def test_large_files_are_sampled_at_both_ends(tmp_path):
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(WHOLE_BYTES * 20)
    first = content_hash(path)
    assert first.startswith("sampled:")
    for position in (0, WHOLE_BYTES * 20 - 1):
        with path.open("r+b") as file:
            file.seek(position)
            file.write(b"x")
        changed = content_hash(path)
        assert changed != first
        first = changed
    os.truncate(path, WHOLE_BYTES * 20 - 1)
    assert content_hash(path) != first


def test_differing_names_both_values():
    assert differing({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == [
        "b (there 3, here 2)",
        "c (there 4, here not given)",
    ]
