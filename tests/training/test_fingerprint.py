"""What decides a replicate changes its fingerprint, and nothing else does."""

import ast
import copy
from pathlib import Path

import pytest
import torch

from stages.hashing import hash_tensors
from stages.models.compute import Compute
from stages.models.network import build_network
from stages.params import Policy
from stages.rates.policies import plan_policy
from stages.training import fingerprint as fingerprint_module
from stages.training.fingerprint import DECIDING_CODE, ROOT, code_digest, code_digests, fingerprint
from tests.training.conftest import with_params

CPU = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture
def named(params):
    """Return a function that gives the fingerprint of a replicate, with changes."""
    network = build_network(params.model, 2, 1)

    def named(params=params, policy=None, seed=1, module=network.module, checksums=None, compute=CPU):
        plan = plan_policy(policy or Policy(uniform=0.01), list(network.groups))
        return fingerprint(
            params, plan, seed, hash_tensors(module.state_dict()), checksums or {"images.npy": "1"}, compute
        )

    return named


def test_whatever_decides_the_result_is_in_the_fingerprint(params, named):
    others = [
        named(with_params(params, "train", batch_size=16)),
        named(with_params(params, "train", epochs=4)),
        named(with_params(params, "train", threads=2)),
        named(with_params(params, "train", augment=["horizontal_flip"])),
        named(with_params(params, "optimizer", momentum=0.5)),
        named(with_params(params, "schedule", name="linear")),
        named(policy=Policy(backbone=0.0, head=0.1)),
        named(policy=Policy(backbone=0.001, head=0.01, head_only_epochs=1)),
        named(seed=2),
        named(module=build_network(params.model, 2, 2).module),
        named(checksums={"images.npy": "2"}),
        named(compute=Compute(torch.device("cpu"), torch.bfloat16)),
    ]
    assert len({named(), *others}) == len(others) + 1


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("review", {"arm": "baseline"}),
        ("evidence", {"metric": "loss", "looks": None}),
        ("data", {"development": 0.5}),  # what comes of it is in the checksums
        ("resume", {"save_every_minutes": 1.0}),
        ("search", {"trials": 2, "repeats": 1, "seed": 7}),
        ("replicate_store", {"max_gib": 1.0}),
        ("train", {"seeds": [1, 2, 3, 4], "on_divergence": "record", "workers": 7, "device": "auto"}),
    ],
)
def test_what_decides_no_replicate_is_not(params, named, section, changes):
    assert named() == named(with_params(params, section, **changes))


def test_two_arms_with_equal_rates_share_their_replicates(named):
    assert named(policy=Policy(uniform=0.01)) == named(policy=Policy(backbone=0.01, head=0.01))


def test_the_versions_and_the_processor_are_in_the_fingerprint(named, monkeypatch):
    before = named()
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint_module, "version", lambda name: "0")
        assert named() != before
    with monkeypatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "another"})
        assert named() != before
    with monkeypatch.context() as patch:
        patch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
        assert named() != before
    assert named() == before


def test_the_number_of_cores_is_not(named, monkeypatch):
    before, found = named(), torch.cpu.get_capabilities()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**found, "num_logical_cores": 64})
    assert named() == before


def test_the_code_that_runs_is_the_one_that_was_read_first(named, monkeypatch):
    before = named()
    monkeypatch.setattr(fingerprint_module, "code_digest", lambda source: "another")
    assert named() == before
    code_digests.cache_clear()
    assert named() != before
    code_digests.cache_clear()


CODE = '''"""A module."""

LIMIT = 3  # steps


def step(rate: float) -> float:
    """Take a step."""
    return rate * LIMIT
'''


@pytest.mark.parametrize(
    "other",
    [
        CODE.replace("A module.", "Another."),
        CODE.replace("Take a step.", "Take it."),
        CODE.replace('    """Take a step."""\n', ""),
        CODE.replace("# steps", "# of the optimizer"),
        CODE.replace("\n\n\n", "\n"),
    ],
)
def test_comments_docstrings_and_layout_train_nothing_again(other):
    assert other != CODE
    assert code_digest(other) == code_digest(CODE)


@pytest.mark.parametrize(
    "other", [CODE.replace("3", "4"), CODE.replace("*", "+"), CODE.replace("rate * LIMIT", "LIMIT * rate")]
)
def test_any_other_change_does(other):
    assert code_digest(other) != code_digest(CODE)


def test_a_change_of_any_line_that_does_something_in_the_loop_is_seen():
    """Each statement of it removed, one at a time."""
    source = (ROOT / "training/loop.py").read_text()
    tree = ast.parse(source)
    whole, seen = code_digest(source), 0
    for number, function in enumerate(tree.body):
        if isinstance(function, ast.FunctionDef):
            for place in range(1, len(function.body)):
                changed = copy.deepcopy(tree)
                changed.body[number].body[place] = ast.Pass()
                assert code_digest(ast.unparse(changed)) != whole
                seen += 1
    assert seen > 10


# What the deciding code imports of ours, but carries values, files, signals and words.
CARRYING = {
    "errors.py",
    "files.py",
    "hashing.py",
    "params.py",
    "progress.py",
    "signals.py",
    "training/distributed.py",  # of one process it changes nothing, and what several have trained is not kept
    "training/replicate_progress.py",
}


def test_all_code_that_a_replicate_runs_is_in_the_fingerprint_or_known_to_carry_only():
    """A new module between them has to be put on one side."""
    deciding, left = set(), [Path("training/replicate.py")]
    while left:
        file = left.pop()
        name = str(file)
        if name in deciding or name in CARRYING:
            continue
        deciding.add(name)
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages"):
                parts = node.module.split(".")[1:]
                found = [Path(*parts).with_suffix(".py")] if parts else []
                found += [Path(*parts, alias.name).with_suffix(".py") for alias in node.names]
                left += [path for path in found if (ROOT / path).is_file()]
    covered = {
        name for name in deciding if any(Path(entry) in (Path(name), *Path(name).parents) for entry in DECIDING_CODE)
    }
    assert deciding - covered == set()
    assert set(code_digests()) >= deciding
