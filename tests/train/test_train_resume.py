import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import train_models
from train_models import Stop, same_bits, settings, text_data, tiny_llama

from archtool.errors import UsageError
from archtool.train.history import FILE, History
from archtool.train.run import train

REPO = Path(__file__).resolve().parents[2]


class Broken(Exception):
    pass


def broken():
    raise Broken


def test_same_seed_same_bits_and_another_seed_others(tmp_path):
    data = text_data(tmp_path)
    first, _ = train(tiny_llama(), data, settings())
    again, _ = train(tiny_llama(), data, settings())
    other, _ = train(tiny_llama(), data, settings(seed=1))
    assert same_bits(first, again) and not same_bits(first, other)


@pytest.mark.parametrize(("after", "optimizer"), [(1, "adamw"), (5, "adamw"), (11, "adamw"), (5, "muon"), (5, "sgd")])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, after, optimizer):
    data, how = text_data(tmp_path), settings(optimizer=optimizer)
    whole, record = train(tiny_llama(), data, how)
    with pytest.raises(Broken):
        train(tiny_llama(), data, how, work=tmp_path, progress=Stop(after, broken))
    resumed, second = train(tiny_llama(), data, how, work=tmp_path)
    saved = 2 * ((after - 1) // 2)  # the progress stops before the state of that step is saved
    assert second.resumed_at == saved
    assert same_bits(whole, resumed) and second.curve == record.curve
    steps = [json.loads(line)["step"] for line in (tmp_path / FILE).read_text().splitlines()]
    assert steps == list(range(1, 13))


def test_a_run_killed_by_the_system_resumes_to_the_same_bits(tmp_path):
    after = 8
    environment = os.environ | {
        "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'tests' / 'train'}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(Path(train_models.__file__)), str(tmp_path), str(after)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole, _ = train(tiny_llama(), text_data(tmp_path), settings(accumulate=2))
    resumed, record = train(tiny_llama(), text_data(tmp_path), settings(accumulate=2), work=tmp_path)
    assert 0 < record.resumed_at < after
    assert same_bits(whole, resumed)


def test_the_state_of_another_run_is_refused(tmp_path):
    data = text_data(tmp_path)
    train(tiny_llama(), data, settings(steps=3), work=tmp_path)
    with pytest.raises(UsageError, match="another training run"):
        train(tiny_llama(), data, settings(steps=3, lr=0.5), work=tmp_path)
    train(tiny_llama(), data, settings(steps=3, save_steps=1), work=tmp_path)  # when it saves does not matter


def test_a_torn_last_line_of_the_losses_is_cut(tmp_path):
    (tmp_path / FILE).write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    history = History(tmp_path)
    history.restore(1)
    history.append(2, {"loss": 0.5})
    assert (tmp_path / FILE).read_text() == '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 0.5}\n'
    assert history.curve() == [(1, 2.0), (2, 0.5)]


def test_losses_are_summed_up_in_equal_stretches():
    history = History(None, [{"step": i + 1, "loss": float(i)} for i in range(1000)])
    curve = history.curve()
    assert len(curve) == 200 and curve[0] == (5, 2.0) and curve[-1] == (1000, 997.0)
    assert history.recent() == sum(range(900, 1000)) / 100
