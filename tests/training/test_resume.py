"""What is interrupted goes on, and comes to the same bits."""

import pickle
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from stages.errors import UserError
from stages.hashing import hash_bytes
from stages.models.network import Network
from stages.params import Policy
from stages.signals import Interrupted, Signals
from stages.training import loop as loop_module
from stages.training.replicate_progress import ReplicateProgress
from stages.training.resume import MAGIC, ResumeState, clear_resume_states, resume_path
from tests.conftest import Malicious
from tests.training.conftest import RecordedProgress, StopAfter, same_weights, train, with_params


@pytest.fixture(scope="module")
def params(params):
    return with_params(with_params(params, "train", epochs=3, augment=["quarter_turn"]), "schedule", name="cosine")


def same(one, other):
    """Whether two trainings came to the same bits and metrics."""
    return one[1] == other[1] and same_weights(one[0], other[0])


POLICIES = {
    "one rate": Policy(uniform=0.01),
    "gradual unfreezing": Policy(backbone=0.001, head=0.01, gradual_unfreezing=True),
    "head first": Policy(backbone=0.001, head=0.01, head_only_epochs=1),
    "frozen": Policy(backbone=0.0, head=0.1),
}


@pytest.fixture
def steps_taken(monkeypatch):
    """Return a list that grows by one at every step that is really taken."""
    taken, real = [], loop_module.train_step

    def step(*arguments, **keywords):
        found = real(*arguments, **keywords)
        taken.append(1)
        return found

    monkeypatch.setattr(loop_module, "train_step", step)
    return taken


def stopped_after(steps, params, samples, policy, path):
    """Train one replicate until SIGTERM stops it after so many steps, and leave its state in a file."""
    signals = Signals()
    with signals.handled(), pytest.raises(Interrupted) as interruption:
        train(params, samples, policy, resume_state=ResumeState(path), progress=StopAfter(steps), signals=signals)
    assert interruption.value.number == signal.SIGTERM


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_training_that_is_stopped_again_and_again_comes_to_the_same_bits(
    tmp_path, params, samples, steps_taken, policy, optimizer
):
    """Nine steps in three epochs, stopped after each of them."""
    params = with_params(params, "optimizer", name=optimizer)
    undisturbed = train(params, samples, POLICIES[policy])
    steps_taken.clear()
    path = tmp_path / "state"
    for steps in range(1, 10):
        stopped_after(1, params, samples, POLICIES[policy], path)
        assert len(steps_taken) == steps
    assert same(undisturbed, train(params, samples, POLICIES[policy], resume_state=ResumeState(path)))
    assert len(steps_taken) == 9  # none of them twice


def test_a_stop_before_the_generators_are_back_keeps_the_state_that_was_there(tmp_path, params, samples, monkeypatch):
    """In a network with dropout, stopped within an epoch, and again while it begins to go on."""
    dropped = torch.nn.Dropout(0.5)
    monkeypatch.setattr(Network, "logits", lambda network, pixels: dropped(logits(network, pixels)))
    undisturbed = train(params, samples, POLICIES["one rate"])
    path = tmp_path / "state"
    stopped_after(4, params, samples, POLICIES["one rate"], path)
    before = path.read_bytes()

    def interrupted(*_):
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("stages.training.trainer.head_on_features", interrupted)
        train(params, samples, POLICIES["one rate"], resume_state=ResumeState(path))
    assert path.read_bytes() == before
    assert same(undisturbed, train(params, samples, POLICIES["one rate"], resume_state=ResumeState(path)))


logits = Network.logits


def test_a_finished_replicate_is_not_trained_again(tmp_path, params, samples, monkeypatch):
    path = tmp_path / "state"
    first = train(params, samples, POLICIES["one rate"], resume_state=ResumeState(path))
    monkeypatch.setattr("stages.training.trainer.train_epoch", None)
    monkeypatch.setattr("stages.training.trainer.metrics_of", None)
    assert same(first, train(params, samples, POLICIES["one rate"], resume_state=ResumeState(path)))


def test_the_state_is_saved_every_so_many_minutes_within_an_epoch(tmp_path, params, samples):
    path, found = tmp_path / "state", []

    class Looking(ReplicateProgress):
        def step(self, running):
            found.append(path.exists())

    train(
        params, samples, POLICIES["one rate"], resume_state=ResumeState(path, save_every_minutes=0), progress=Looking()
    )
    assert found == [False] + [True] * 8


def test_the_progress_jumps_over_the_steps_of_an_earlier_run_which_are_not_taken_again(
    tmp_path, params, samples, steps_taken
):
    stopped_after(4, params, samples, POLICIES["one rate"], tmp_path / "state")
    progress = RecordedProgress()
    train(params, samples, POLICIES["one rate"], resume_state=ResumeState(tmp_path / "state"), progress=progress)
    assert progress.resumed == 4
    assert progress.steps == [2, 3, 1, 2, 3]
    assert len(steps_taken) == 9


def damaged_by_a_flipped_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "empty", "pickle", "pickle with a checksum"])
def test_a_damaged_state_is_set_aside_with_a_warning_and_the_replicate_begins_anew(
    tmp_path, params, samples, capsys, damage
):
    path = tmp_path / "state"
    stopped_after(4, params, samples, POLICIES["one rate"], path)
    evil = pickle.dumps(Malicious(tmp_path / "executed"))
    content = path.read_bytes()
    path.write_bytes(
        {
            "flipped bit": damaged_by_a_flipped_bit(content),
            "cut short": content[:1000],
            "empty": b"",
            "pickle": evil,
            "pickle with a checksum": signed(evil),
        }[damage]
    )
    resumed = train(params, samples, POLICIES["one rate"], resume_state=ResumeState(path))
    assert same(train(params, samples, POLICIES["one rate"]), resumed)
    assert "is damaged; it was set aside as" in capsys.readouterr().out
    assert (tmp_path / "state.damaged").exists()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "change", [{"trainable_groups": ["nosuch"]}, {"training": {"running": [1]}}, {"module": {}}, {"training": 3}, None]
)
def test_a_whole_file_that_is_no_state_of_this_replicate_is_refused_by_name(tmp_path, params, samples, change):
    path = tmp_path / "state"
    stopped_after(4, params, samples, POLICIES["one rate"], path)
    state = ResumeState(path).load(torch.device("cpu"))
    ResumeState(path).save([1] if change is None else {**state, **change})
    with pytest.raises(UserError, match=f"{path} holds no state of this replicate: remove it"):
        train(params, samples, POLICIES["one rate"], resume_state=ResumeState(path))


def signed(content):
    return MAGIC + hash_bytes(content).encode() + content


def test_a_deleted_state_leaves_no_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (ResumeState(resume_path(f"baseline-seed-{seed}", "0" * 64)) for seed in (1, 2))
    first.save({"seed": 1})
    second.save({"seed": 2})
    assert second.load(torch.device("cpu")) == {"seed": 2}
    first.delete()
    assert len(list(Path(".resume").iterdir())) == 1
    second.delete()
    assert list(tmp_path.iterdir()) == []


def test_an_arm_that_is_finished_leaves_nothing_not_even_what_a_kill_left_half_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state, other = (resume_path(f"{arm}-seed-1", "0" * 64) for arm in ("baseline", "differential"))
    for path in (state, other):
        ResumeState(path).save({"seed": 1})
    ended = subprocess.Popen(["true"])
    ended.wait()
    (state.parent / f".baseline-seed-1-older.state.{ended.pid}").touch()
    clear_resume_states("baseline")
    assert list(Path(".resume").iterdir()) == [other]
    clear_resume_states("differential")
    assert list(tmp_path.iterdir()) == []
