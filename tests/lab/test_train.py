"""A training run: same losses after a kill and a resume; rates, growth and start as in the run's file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.errors import ConfigError
from tests.lab.faces import make_data, make_teacher
from tools.lab.run import Run, Stage, read

torch = pytest.importorskip("torch", reason="skipped: torch is not installed (extra lab)")

from tools.lab import data, progress, student, teacher, views
from tools.lab import train as training
from tools.lab.lessons import Bank, Lessons
from tools.lab.networks.lightcnn9 import LightCNN9
from tools.lab.networks.mfm import convolution
from tools.lab.optimizer import Muon, orthogonalized

torch.set_num_threads(1)  # with a small network, two threads are slower than one

RUN = """
seed = 5
width = 0.1
batch = 4
blended = 0.5
hardest = 0.25
bank = 32
more = false
threads = 1
nice = 0
log_steps = 1
save_steps = 5
evaluate_steps = 24
[[stages]]
side_px = 16
steps = 12
rate = 1e-3
warmup_steps = 3
[[stages]]
side_px = 32
steps = 12
rate = 5e-4
warmup_steps = 3
cooldown_steps = 6
"""


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("faces"))


@pytest.fixture(autouse=True)
def small_teacher(faces: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = faces / "teacher.onnx"
    monkeypatch.setattr(teacher, "SHA256", make_teacher(path))
    return path


def lessons_of(faces: Path) -> Lessons:
    return Lessons.read(faces, faces / "teacher.onnx", torch.device("cpu"), more=False)


def train(run: Run, faces: Path, folder: Path) -> None:
    training.train(run, faces, folder, teacher=faces / "teacher.onnx")


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    return path


# A real process and a real SIGKILL, at a known step: right after it was logged.
KILLED = """
import os, signal, sys
from pathlib import Path
from tools.lab import progress, teacher, train
from tools.lab.run import read
run_file, faces, folder, last, teacher.SHA256 = sys.argv[1:]
note = progress.Progress.losses
def losses(self, step, mean):
    note(self, step, mean)
    if step == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
progress.Progress.losses = losses
train.train(read(Path(run_file)), Path(faces), Path(folder), teacher=Path(faces) / "teacher.onnx")
"""


def train_and_kill(step: int, run_file: Path, faces: Path, folder: Path) -> int:
    arguments = [str(x) for x in (run_file, faces, folder, step, teacher.SHA256)]
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=root, check=False, timeout=300).returncode


def train_and_stop(step: int, run_file: Path, faces: Path, folder: Path) -> None:
    note = progress.Progress.losses

    def losses_and_signal(self: progress.Progress, at: int, mean: list[float]) -> None:
        note(self, at, mean)
        if at == step:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.Progress, "losses", losses_and_signal)
        train(read(run_file), faces, folder)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_run_resumes_to_the_same_loss_curve(
    optimizer: str, run_file: Path, faces: Path, tmp_path: Path
) -> None:
    run_file.write_text(f'optimizer = "{optimizer}"\n{RUN}')
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(read(run_file), faces, whole)
    assert train_and_kill(7, run_file, faces, broken) == -signal.SIGKILL
    assert progress.entries(broken / "log.jsonl")[-1]["step"] == 7
    assert torch.load(broken / "state.pt", weights_only=True)["step"] == 5  # two steps are repeated
    train_and_stop(18, run_file, faces, broken)  # in the second stage, with the larger network
    assert torch.load(broken / "state.pt", weights_only=True)["step"] == 18
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(read(run_file), faces, broken)
    logs = [progress.entries(folder / "log.jsonl") for folder in (whole, broken)]
    assert logs[0] == logs[1]
    assert [e["step"] for e in logs[0] if "cosine_loss" in e] == list(range(1, 25))
    one, other = (torch.load(folder / "ema.pt", weights_only=True) for folder in (whole, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_on_few_crops_brings_the_student_to_the_teacher(
    optimizer: str, run_file: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "with_faults", lambda pictures, _: pictures)  # the network is too small to learn faults
    stage = Stage(side_px=16, steps=60, rate=5e-3, warmup_steps=5)
    run = msgspec.structs.replace(read(run_file), stages=(stage,), optimizer=optimizer, batch=12, blended=0.0)
    crops = lessons_of(faces)
    state = training.start(run, crops)
    losses = []
    for _ in range(run.steps):
        state.sums = [0.0, 0.0, 0.0]
        training.advance(state, run, crops)
        losses.append(state.sums[0])
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_muon_steps_have_equal_length_in_all_singular_directions() -> None:
    layer = torch.nn.Conv2d(4, 8, 3)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    before = layer.weight.detach().clone()
    optimizer = Muon(layer, rate=0.1, weight_decay=0.0)
    u, _, v = torch.linalg.svd(torch.randn(8, 36, generator=torch.Generator().manual_seed(1)), full_matrices=False)
    gradient = u @ torch.diag(torch.logspace(0, -1, 8)) @ v  # one direction is ten times as strong as another
    layer.weight.grad = gradient.view(8, 3, 3, 4).permute(0, 3, 1, 2)
    optimizer.step()
    step = (layer.weight.detach() - before).permute(0, 2, 3, 1).flatten(1)
    strengths = torch.linalg.svdvals(step)
    assert strengths.min() > 0.5 * strengths.max()
    assert step.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=0.3)  # as long as a step of AdamW


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (5, 5)])
def test_an_orthogonalized_matrix_keeps_its_singular_vectors_and_equalizes_its_singular_values(
    shape: tuple[int, int],
) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(3))
    found = torch.linalg.svdvals(orthogonalized(matrix))
    assert found.min() > 0.5
    assert found.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert float((u @ v * orthogonalized(matrix)).sum()) > 0.9 * min(shape) * float(found.mean())


def test_a_state_of_another_run_is_refused(run_file: Path, faces: Path, tmp_path: Path) -> None:
    run = msgspec.structs.replace(read(run_file), stages=(Stage(side_px=16, steps=1, rate=1e-3),), evaluate_steps=99)
    train(run, faces, tmp_path / "a")
    with pytest.raises(student.TrainingError, match="another run"):
        train(msgspec.structs.replace(run, seed=6), faces, tmp_path / "a")
    train(msgspec.structs.replace(run, log_steps=7), faces, tmp_path / "a")  # log intervals may differ


def test_layers_start_with_unit_variance() -> None:
    torch.manual_seed(0)
    net, pictures = LightCNN9(width=0.2, side_px=32), torch.rand(16, 1, 32, 32)
    student.scale_layers(net, pictures)
    with torch.no_grad():
        assert float(net(pictures).std()) == pytest.approx(1, abs=1e-3)
        assert float(net.f[2](net.f[1](net.f[0](pictures))).std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_max_feature_map_is_that_of_maximum(layout: Any) -> None:
    torch.manual_seed(0)
    layer, weights = convolution(3, 5, 3, torch.maximum), torch.rand(2, 5, 8, 8)
    kernel, pictures = layer.f.get_parameter("weight"), torch.rand(2, 3, 8, 8).to(memory_format=layout)
    halves = layer.f(pictures)
    expected = (torch.maximum(halves[:, :5], halves[:, 5:]) * weights).sum()
    found = (layer(pictures) * weights).sum()
    gradients = [torch.autograd.grad(value, kernel)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_frozen_blocks_keep_the_weights_of_the_start(faces: Path, run_file: Path) -> None:
    run, lessons = msgspec.structs.replace(read(run_file), frozen=4), lessons_of(faces)
    state = training.start(run, lessons)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    training.advance(state, run, lessons)
    moved = {name for name, value in state.model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("net.f.0.", "net.f.2.")) for name in moved)
    assert {"net.f.4.c.f.weight", "net.f.7.c.f.weight", "net.fc.f.weight", "proj.weight"} <= moved


def test_a_larger_input_keeps_what_was_learned(faces: Path) -> None:
    small, large = (student.Student(0.1, side_px, 16) for side_px in (16, 32))
    student.adopt(large, small.state_dict())
    left = torch.rand(1, small.net.fc.f.in_features, 1, 1)  # output of the convolutions
    spread = left.expand(1, -1, 2, 2)
    assert torch.allclose(small.net.fc(left.flatten(1)), large.net.fc(spread.flatten(1)), atol=1e-5)
    with pytest.raises(student.TrainingError, match="do not fit"):
        student.adopt(student.Student(0.2, 16, 16), small.state_dict())


def test_every_epoch_takes_each_crop_once(faces: Path, run_file: Path) -> None:
    run = msgspec.structs.replace(read(run_file), hardest=0.0)
    lessons = lessons_of(faces)  # 24 crops: 6 batches of 4
    nobody, unseen = torch.zeros(0, dtype=torch.int64), torch.ones(24)
    for start_of_pass in (0, 6):
        seen = torch.cat([lessons.lesson(run, start_of_pass + i, 16, nobody, unseen).crops for i in range(6)])
        assert sorted(seen.tolist()) == list(range(24))
    first, again, later = (lessons.lesson(run, step, 16, nobody, unseen).pictures for step in (0, 0, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_the_crop_with_the_lowest_agreement_is_repeated(faces: Path, run_file: Path) -> None:
    run, lessons = read(run_file), lessons_of(faces)
    state = training.start(run, lessons)
    training.advance(state, run, lessons)
    (again,) = state.again.tolist()
    seen = state.agreement != training._FIRST_AGREEMENT
    assert state.agreement[again] == state.agreement[seen].min()
    assert again in lessons.lesson(run, 1, 16, state.again, state.agreement).crops.tolist()


def test_a_full_bank_overwrites_its_oldest_embeddings_first() -> None:
    bank = Bank(torch.zeros((0, 1)), size=5)
    for answers in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]):
        bank.add(torch.tensor(answers)[:, None])
    assert sorted(bank.rows[:, 0].tolist()) == [4.0, 5.0, 6.0, 7.0, 8.0]


def test_the_teachers_file_must_be_the_known_one(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.onnx").write_bytes((faces / "teacher.onnx").read_bytes() + b"\0")
    with pytest.raises(data.DataError, match="SHA-256"):
        teacher.Teacher(tmp_path / "teacher.onnx")


def test_no_validation_person_is_in_training(tmp_path: Path) -> None:
    folder = make_data(tmp_path)
    with np.load(folder / "teacher.npz") as archive:
        embedding = archive["embedding"]
    embedding[5] = embedding[30]  # a training crop of a validation person, without or with another label
    np.savez(folder / "teacher.npz", embedding=embedding)
    make_teacher(folder / "teacher.onnx")
    assert lessons_of(folder).keys == [f"{i:06d}" for i in range(24) if i != 5]


def test_the_rate_rises_stays_and_falls() -> None:
    stage = Stage(side_px=64, steps=100, rate=1.0, warmup_steps=10, cooldown_steps=20)
    assert [stage.rate_at(s) for s in (0, 9, 50, 80, 90, 99)] == pytest.approx([0.1, 1, 1, 1, 0.5, 0.05])
    assert stage.rate_at(99) > 0
    run = Run(stages=(stage, Stage(side_px=96, steps=5, rate=1.0)))
    assert [run.place(s) for s in (0, 99, 100, 104)] == [(0, 0), (0, 99), (1, 0), (1, 4)]


@pytest.mark.parametrize(
    ("text", "named"),
    [("[[stages]]\nside_px = 17\nsteps = 1\nrate = 1.0", "side_px"), ("sedd = 1", "sedd"), ("stages = []", "stages")],
)
def test_a_wrong_key_in_a_run_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read(path)


def test_the_committed_runs_can_be_read() -> None:
    found = [read(path) for path in sorted((Path(training.__file__).parent / "runs").glob("*.toml"))]
    assert found


def test_a_log_cut_off_by_a_kill_is_read_up_to_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "cos')
    assert progress.entries(path) == [{"step": 1}]
