"""What travels between clones by a DVC remote, in a folder or on S3, and what whoever writes to the remote can do."""

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.stage.cache import _get_cache_hash

from tests.conftest import ROOT, Project, set_params, stages_run
from tests.test_pipeline import METRICS_FILES

MISSING = [name for name in ("dvc_s3", "moto", "flask", "flask_cors") if importlib.util.find_spec(name) is None]
needs_s3 = pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: make test-slow installs what S3 needs")
RESULTS = ("metrics", "models", "data/prepared", "report")
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/review.yml").read_text())
STEPS = {step["name"]: step for step in WORKFLOW["jobs"]["review"]["steps"] if "name" in step}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A remote that is a folder, as on a disk that all computers see."""
    return str(tmp_path / "remote")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A remote on an S3-compatible server on this machine; credentials stand in the environment alone."""
    server = importlib.import_module("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    importlib.import_module("boto3").client("s3").create_bucket(Bucket="share")
    yield "s3://share/solar"
    server.stop()


@pytest.fixture
def clone_from(project: Project, tmp_path: Path) -> Callable[[str], Project]:
    """Return a function that clones the tiny experiment by Git, and so without its data, from a bare repository."""
    project.run("git", "clone", "--quiet", "--bare", ".", str(tmp_path / "origin.git"))
    project.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))

    def clone(name: str) -> Project:
        project.run("git", "clone", "--quiet", str(tmp_path / "origin.git"), str(tmp_path / name))
        other = Project(tmp_path / name)
        other.run("git", "config", "user.name", "Other")
        other.run("git", "config", "user.email", "other@example.com")
        return other

    return clone


def share_by(project: Project, url: str, verify: bool = True) -> None:
    """Set a remote as docs/sharing.md says."""
    project.run("dvc", "remote", "add", "--local", "--default", "share", url)
    if verify:
        project.run("dvc", "remote", "modify", "--local", "share", "verify", "true")


def changed(project: Project) -> list[str]:
    return project.run("git", "status", "--porcelain", "--untracked-files=all").stdout.split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", pytest.param("bucket", marks=needs_s3)])
def test_what_one_clone_pushes_another_has_without_training(project, clone_from, where, request):
    url = request.getfixturevalue(where)
    share_by(project, url)
    assert project.run("dvc", "push").stdout.splitlines()[-1] == "17 files pushed"
    assert project.run("dvc", "push").stdout.splitlines()[-1] == "Everything is up to date."
    for name, commands in {
        "pulls": (["dvc", "pull", "--allow-missing"], ["dvc", "repro"]),
        "reproduces": (["dvc", "repro", "--pull", "--no-run-cache"],),
    }.items():
        other = clone_from(name)
        assert not (other.folder / "models/baseline").exists()
        share_by(other, url)
        for command in commands:
            assert not stages_run(other.run(*command).stdout)
        assert changed(other) == []
        theirs = other.fingerprints(*RESULTS)
        assert {f"metrics/{file}" for file in METRICS_FILES} < set(theirs)
        assert theirs == {file: content for file, content in project.fingerprints(*RESULTS).items() if file in theirs}
        assert "secret" not in (other.folder / ".dvc/config.local").read_text()


@pytest.mark.slow
def test_an_experiment_that_is_not_committed_travels_by_its_name(project, clone_from, folder):
    other = clone_from("other")
    for clone in (project, other):
        share_by(clone, folder)
    project.run("dvc", "push")
    project.run("dvc", "exp", "run", "--name", "faster", "-S", "lr.head=0.02")
    project.run("dvc", "exp", "push", "origin", "faster")
    other.run("dvc", "exp", "pull", "origin", "faster")
    other.run("dvc", "exp", "apply", "faster", check=False)  # no search has run: docs/daily-loop.md
    assert not stages_run(other.run("dvc", "repro").stdout)
    assert other.fingerprints("models", "metrics") == project.fingerprints("models", "metrics")
    assert other.read("params.yaml") == project.read("params.yaml")


def test_without_a_remote_dvc_says_so(project):
    for command in ("push", "pull"):
        done = project.run("dvc", command, check=False)
        assert done.returncode
    assert "config file error: no remote specified in " in project.run("dvc", "push", check=False).stderr


def test_of_stages_whose_metrics_are_gits_the_run_cache_keeps_none(reproduced):
    """Which is why docs/sharing.md leaves it out; DVC 3.67.1 keeps those alone whose every such output is a metric."""
    entries = [yaml.safe_load(path.read_text()) for path in reproduced.folder.glob(".dvc/cache/runs/*/*/*")]
    assert [entry["cmd"] for entry in entries] == ["python -m stages.review"]


def object_of(remote: Path, project: Project, arm: str, file: str) -> Path:
    """Where a folder remote keeps a file of an arm."""
    lock = yaml.safe_load(project.read("dvc.lock"))
    (md5,) = [out["md5"] for out in lock["stages"][f"train_{arm}"]["outs"] if out["path"] == f"models/{arm}"]
    listed = json.loads((remote / "files/md5" / md5[:2] / md5[2:]).read_text())
    (md5,) = [entry["md5"] for entry in listed if entry["relpath"] == file]
    return remote / "files/md5" / md5[:2] / md5[2:]


@pytest.fixture
def forged(project: Project, folder: str) -> bytes:
    """What someone has put into the remote in the place of a checkpoint: another one, sound in itself."""
    share_by(project, folder)
    project.run("dvc", "push")
    place = object_of(Path(folder), project, "differential", "seed-1.safetensors")
    place.chmod(0o644)
    place.write_bytes(project.read("models/differential/seed-2.safetensors"))
    return place.read_bytes()


CHECKPOINT = "models/differential/seed-1.safetensors"


@pytest.mark.slow
def test_a_forged_checkpoint_is_taken_unless_the_remote_is_verified_or_all_is_run_by_force(
    project, clone_from, folder, forged
):
    """DVC compares no checksum by itself."""
    other = clone_from("other")
    share_by(other, folder, verify=False)
    other.run("dvc", "pull", "--allow-missing")
    assert other.read(CHECKPOINT) == forged
    assert not stages_run(other.run("dvc", "repro").stdout)
    told = json.loads(other.stage("verify", "--json").stdout)  # of the commit, and not of what lies here
    assert (told["outcome"], told["checkpoints_identical"]) == ("identical", True)
    assert other.read(CHECKPOINT) == forged
    other.run("dvc", "repro", "--force", "train_differential")
    assert other.read(CHECKPOINT) == project.read(CHECKPOINT)
    assert changed(other) == []


@pytest.mark.slow
def test_where_the_remote_is_verified_a_forged_checkpoint_is_left_out_and_trained(project, clone_from, folder, forged):
    other = clone_from("other")
    share_by(other, folder)
    other.run("dvc", "pull", "--allow-missing")
    assert not (other.folder / CHECKPOINT).exists()
    assert stages_run(other.run("dvc", "repro", "--pull", "--no-run-cache").stdout) == ["train_differential"]
    assert other.fingerprints("models", "metrics") == project.fingerprints("models", "metrics")
    assert changed(other) == []


def plant(remote: Path, stage: dict[str, Any], files: dict[str, bytes]) -> None:
    """Put into a folder remote that a stage's run has written these files."""
    outs = []
    for path, content in files.items():
        md5 = hashlib.md5(content).hexdigest()
        place = remote / "files/md5" / md5[:2] / md5[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        outs.append({"path": path, "hash": "md5", "md5": md5, "size": len(content)})
    key = _get_cache_hash({**stage, "outs": [{"path": out["path"]} for out in stage["outs"]]}, key=True)
    entry = remote / "runs" / key[:2] / key / ("0" * 64)
    entry.parent.mkdir(parents=True)
    entry.write_text(yaml.safe_dump({**stage, "outs": outs}))


@pytest.mark.slow
@pytest.mark.parametrize("with_run_cache", [True, False])
def test_who_writes_to_the_run_cache_decides_results_and_adds_files_so_it_is_left_out(
    project, clone_from, folder, with_run_cache
):
    """Verified or not. Python would import the file that is added in the place of the package."""
    share_by(project, folder)
    project.run("dvc", "push")
    stage = yaml.safe_load(project.read("dvc.lock"))["stages"]["review"]
    stage["params"]["params.yaml"]["review.arm"] = "baseline"
    plant(Path(folder), stage, {"metrics/review.json": b'{"val_loss": 0}', "yaml.py": b"raise SystemExit\n"})
    other = clone_from("other")
    share_by(other, folder)
    set_params(other.folder, {"review.arm": "baseline"})
    other.run("dvc", "repro", "--pull", *([] if with_run_cache else ["--no-run-cache"]), "review")
    assert (other.read_json("metrics/review.json")["val_loss"] == 0) == with_run_cache
    assert (other.folder / "yaml.py").exists() == with_run_cache


def run_step(project: Project, name: str, **environment: str) -> str:
    """Run a step of the workflow as GitHub does."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        patch.setenv("GITHUB_OUTPUT", str(project.folder / ".git/output"))
        return project.run("bash", "-e", "-c", STEPS[name]["run"]).stdout


def run_workflow(project: Project, **secrets: str) -> list[str]:
    """Run the steps between set-up and review; return the stages that ran."""
    run_step(project, "See whether anything is to be run")
    output = project.folder / ".git/output"
    if not output.exists():
        return []
    assert output.read_text() == "run=true\n"
    given = {"DVC_REMOTE_URL": "", "S3_SERVER": "", **secrets}
    run_step(project, "Pull what the remote has", **given)
    ran = stages_run(run_step(project, "Reproduce the experiment"))
    run_step(project, "Push what came out", **given)
    run_step(project, "Write the results as a patch")
    return ran


@pytest.mark.slow
def test_the_workflow_runs_nothing_where_a_pull_request_has_its_results(clone_from, folder):
    assert run_workflow(clone_from("other")) == []
    assert run_workflow(clone_from("second"), DVC_REMOTE_URL=folder) == []


@pytest.mark.slow
def test_the_workflow_trains_what_a_pull_request_changed_and_its_author_gets_that_by_patch_and_pull(
    project, clone_from, folder
):
    share_by(project, folder)
    project.run("dvc", "push")
    author, runner, fork = (clone_from(name) for name in ("author", "runner", "fork"))
    for clone in (author, runner, fork):
        set_params(clone.folder, {"lr.head": 0.02})
        clone.commit("A higher rate, without its results")
    rerun = {"check_params", "train_differential", "evaluate", "review", "report"}
    assert set(run_workflow(runner, DVC_REMOTE_URL=folder)) == rerun
    assert set(run_workflow(fork)) == rerun | {"prepare", "split", "train_baseline"}
    assert fork.run("dvc", "remote", "list").stdout == ""
    assert fork.fingerprints("metrics") == runner.fingerprints("metrics")
    author.run("git", "apply", str(runner.folder / "results.patch"))
    share_by(author, folder)
    author.run("dvc", "pull", "--allow-missing")
    assert not stages_run(author.run("dvc", "repro").stdout)
    assert author.fingerprints("models", "metrics") == runner.fingerprints("models", "metrics")


def test_the_workflow_gives_secrets_to_no_step_that_runs_a_pull_requests_pipeline():
    assert WORKFLOW[True] == "pull_request"  # YAML 1.1's word for `on`; of a fork it has no secrets
    with_secrets = {name for name, step in STEPS.items() if "secrets." in json.dumps(step)}
    assert with_secrets == {"Set up the environment", "Pull what the remote has", "Push what came out"}
    assert json.dumps(STEPS["Set up the environment"]).count("secrets.") == 1  # where the remote is, and no key
    assert "secrets" not in json.dumps(
        {key: value for key, value in WORKFLOW["jobs"]["review"].items() if key != "steps"}
    )
    commands = "\n".join(step.get("run", "") for step in STEPS.values())
    assert "repro --no-run-cache" in commands
    for line in commands.splitlines():
        if "dvc remote" in line and "list" not in line:
            assert "--local" in line
