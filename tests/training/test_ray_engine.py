"""Replicates as tasks of Ray: the bytes of the local engine, whatever node trains or dies; what is refused is told."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from stages.errors import UserError
from stages.training import ray_engine
from stages.training.finished import is_kept
from stages.training.ray_engine import ResultOfOtherProcessor, Site, describe_processors
from stages.training.trainer import ReplicateResult
from tests.conftest import PATIENCE, ROOT, one_line_of, set_params
from tests.hosts import hosts, needs_hosts
from tests.training.conftest import outputs, with_params

CPU = torch.device("cpu")
TRAIN = (sys.executable, "-m", "stages.train", "baseline")
KILLS = int(os.environ.get("RAY_KILLS", "2"))  # RAY_KILLS=10 pytest tests/training/test_ray_engine.py -k killed
RESTORED = "Attempting to recover"  # a line of Ray's own, where a node dies after a replicate has ended on it

needs_ray = pytest.mark.skipif(
    not ray_engine.is_installed(), reason="needs requirements-ray.txt, which `make ray-requirements` installs"
)


@pytest.fixture(scope="module")
def by_local_engine(reproduced, tmp_path_factory):
    """The baseline of three seeds by the local engine; long enough to be stopped within, with a state at every step."""
    project = reproduced.copy_to(tmp_path_factory.mktemp("local") / "clone")
    changes = {"train.seeds": [1, 2, 3], "train.epochs": 10, "resume.save_every_minutes": 1e-9}
    set_params(project.folder, changes)
    project.stage("split")
    project.stage("train", "baseline")
    return project


@pytest.fixture
def project(by_local_engine, tmp_path):
    """A copy of it, which a cluster of two workers on this machine is to train."""
    copy = by_local_engine.copy_to(tmp_path / "clone")
    set_params(copy.folder, {"train.engine": "ray", "train.workers": 2})
    return copy


def run_beside_nodes(project, *nodes, kills=0, seed=0):
    """Train an arm on a cluster of nodes, some of which are killed."""
    set_params(project.folder, {"ray.address": "auto"})
    script = str(ROOT / "tests/ray_nodes.py")
    return project.run(sys.executable, script, json.dumps(nodes), str(kills), str(seed), *TRAIN, check=False)


def test_without_ray_one_line_says_what_to_install(params, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"train\.engine: ray is missing: pip install -r requirements-ray\.txt"):
        ray_engine.count_workers(with_ray(params, address="auto"), 3, None, CPU)


def with_ray(params, **changes):
    return with_params(with_params(params, "train", engine="ray", workers="auto"), "ray", **changes)


def nodes_with(*resources):
    """What Ray says of nodes that have so much."""
    nodes = [{"Alive": True, "Resources": one} for one in resources]
    return SimpleNamespace(nodes=lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}])


@pytest.mark.parametrize(
    ("resources", "threads", "places"),
    [([{"CPU": 4.0}, {"CPU": 2.0}], 1, 6), ([{"CPU": 4.0}, {"CPU": 3.0}], 2, 3), ([{"CPU": 1.0}, {}], 2, 0)],
)
def test_a_cluster_takes_what_fits_each_of_its_nodes(params, resources, threads, places):
    train = with_params(params, "train", threads=threads).train
    assert ray_engine._places(nodes_with(*resources), ray_engine._resources(train, CPU, 1)) == places


@pytest.mark.parametrize(("per_gpu", "places"), [(1, 3), (2, 6), (3, 9), (7, 21)])
def test_gpus_are_shared(params, per_gpu, places):
    resources = ray_engine._resources(params.train, torch.device("cuda"), per_gpu)
    assert ray_engine._places(nodes_with({"GPU": 2.0, "CPU": 4.0}, {"GPU": 1.0}), resources) == places


def test_what_another_processor_trained_is_told_and_not_kept():
    ours, other = ReplicateResult([]), ResultOfOtherProcessor([], processor="another")
    job = SimpleNamespace(params=SimpleNamespace(train=SimpleNamespace(epochs=0)))
    assert is_kept(job, ours)
    assert not is_kept(job, other)
    here = {"processor": "one", "python": "3"}
    assert describe_processors(here, [ours, ours]) == here
    assert describe_processors(here, [ours, other]) == {
        "processor": "mixed: one; another (1 of 2 replicates)",
        "python": "3",
    }


def test_a_node_with_other_code_or_without_the_folder_is_refused(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # and back
    code = ray_engine.code_digests()
    ray_engine._enter(Site(params.ray, tmp_path, code, {}))
    with pytest.raises(UserError, match=r"ray\.folder: node .* has other code under stages/"):
        ray_engine._enter(Site(params.ray, tmp_path, {**code, "training/loop.py": "another"}, {}))
    with pytest.raises(UserError, match=r"ray\.folder: .*/absent: No such file or directory on node .*clone"):
        ray_engine._enter(Site(params.ray, tmp_path / "absent", code, {}))


def test_a_node_with_other_versions_is_refused():
    here = {"processor": "one", "torch": "2"}
    ray_engine._check_versions({"processor": "another", "torch": "2"}, here, "far")
    with pytest.raises(UserError, match=r"ray\.address: node far has torch 1, here 2: .*requirements\.txt"):
        ray_engine._check_versions({"processor": "one", "torch": "1"}, here, "far")


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("folder", [None, "a clone", "shipped"])
def test_a_cluster_on_this_machine_gives_the_bytes_of_the_local_engine(project, tmp_path, folder):
    before = outputs(project)
    clone = project.copy_to(tmp_path / "on the node").folder if folder == "a clone" else None
    set_params(project.folder, {"ray.folder": str(clone or folder) if folder else None})
    done = project.stage("train", "baseline")
    assert done.stderr == ""
    assert "baseline: 3 to train, by 2 workers, each with 1 thread and about " in done.stdout
    assert outputs(project) == before
    assert not list(project.folder.glob(".resume/baseline-*"))
    assert not clone or not list(clone.glob(".resume/baseline-*"))


@needs_ray
@pytest.mark.slow
def test_a_node_with_other_images_is_refused(project, tmp_path):
    clone = project.copy_to(tmp_path / "on the node").folder
    (clone / "data/splits.csv").write_text((clone / "data/splits.csv").read_text().replace("train", "val"))
    set_params(project.folder, {"ray.folder": str(clone)})
    one_line_of(project.stage("train", "baseline", check=False), "ray.folder: ", "other images or splits", "`dvc pull`")


@needs_ray
@pytest.mark.slow
def test_a_replicate_that_diverges_stops_the_stage_with_one_line(project):
    set_params(project.folder, {"lr.uniform": 1e30})
    one_line_of(project.stage("train", "baseline", check=False), "lr: baseline, seed ", "lower lr.uniform")


@needs_ray
@pytest.mark.slow
def test_all_replicates_come_to_the_same_bytes_where_nodes_are_killed(project):
    before, killed, seed = outputs(project), 0, 0
    while killed < KILLS:
        seed += 1
        done = run_beside_nodes(project, {}, {}, kills=min(2, KILLS - killed), seed=seed)  # more leave no time to train
        assert done.returncode == 0, done.stderr
        assert all(RESTORED in line for line in done.stderr.splitlines()), done.stderr
        assert outputs(project) == before
        assert not list(project.folder.glob(".resume/baseline-*"))
        killed += int(done.stdout.splitlines()[-1])
        print(f"{killed} kills, {done.stdout.count('goes on in epoch')} replicates went on")


PORTS = "6379-6385, 10002-10999"  # that a firewall lets pass
NAMED_PORTS = (
    "--node-manager-port=6380", "--object-manager-port=6381", "--runtime-env-agent-port=6382",
    "--dashboard-agent-listen-port=6383", "--dashboard-agent-grpc-port=6384", "--metrics-export-port=6385",
    "--min-worker-port=10002", "--max-worker-port=10999",
)  # fmt: skip
OTHER = {"name": "other", "env": {"ATEN_CPU_CAPABILITY": "default"}}


@needs_ray
@pytest.mark.slow
def test_a_node_with_another_processor_is_refused_or_told(project):
    same = torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    if same:
        pytest.skip("this processor has the arithmetic alone that every processor has")
    refused = run_beside_nodes(project, {"name": "same"}, OTHER)
    line = one_line_of(refused, "ray.mix_processors: node other has ", "or set ray.mix_processors: true")
    assert "node same" not in line

    set_params(project.folder, {"ray.mix_processors": True, "replicate_store.max_gib": 1})
    done = run_beside_nodes(project, {"name": "same"}, OTHER)
    assert done.returncode == 0, done.stderr
    assert "warning: processors are mixed: node other has " in done.stdout
    processor = project.read_json("metrics/baseline.json")["environment"]["processor"]
    assert processor.startswith("mixed: ")
    others = int(processor.rsplit("(", 1)[1].split(" of 3 ")[0])
    kept = project.stage("replicates").stdout
    assert 1 <= others < 3
    assert kept.count("baseline, seed ") == 3 - others


def start_cluster(head, *nodes):
    """Start Ray as docs/scale.md says, on nodes with a core each and a head with none; return what lets one in."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    politeness = {"RAY_worker_niceness": "0"}  # else other tests starve it
    ray = str(Path(sys.executable).with_name("ray"))
    as_head = ("--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false")
    as_node = (f"--address={head.name}:6379", "--num-cpus=1")
    for host in (head, *nodes):
        host.close_ports_but(PORTS)
        command = host.command(ray, "start", *(as_head if host is head else as_node), *NAMED_PORTS)
        start_node(host, ray, command, {**os.environ, **token, **politeness})
    return token


def start_node(host, ray, command, environment):
    """Start Ray on a host, again where it gives up: it waits 30 seconds for itself, too few on a busy machine."""
    for _ in range(5):
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        subprocess.run(host.command(ray, "stop", "--force"), check=True, capture_output=True)
    pytest.fail(f"{command}: {done.stderr}")


@needs_ray
@needs_hosts
@pytest.mark.slow
def test_hosts_with_clones_behind_firewalls_give_the_bytes_of_the_local_engine(project, tmp_path):
    before, disk = outputs(project), tmp_path.with_name("disk of the others")
    project.copy_to(disk / project.folder.name)
    set_params(project.folder, {"ray.address": "auto", "ray.folder": str(project.folder)})
    with hosts(tmp_path, near=tmp_path, left=disk, right=disk) as (near, *others):
        running = start(project, near, start_cluster(near, *others))
        _, errors = running.communicate(timeout=PATIENCE)
    assert (running.returncode, errors) == (0, "")
    assert outputs(project) == before


@needs_ray
@needs_hosts
@pytest.mark.slow
def test_a_host_that_loses_power_costs_what_it_had_not_saved_on_the_disk_that_all_share(project, tmp_path):
    before = outputs(project)
    set_params(project.folder, {"ray.address": "auto"})
    with hosts(tmp_path, near=tmp_path, left=tmp_path, right=tmp_path) as (near, left, right):
        running = start(project, near, start_cluster(near, left, right))
        wait_for_states(project, running)
        right.lose_power()
        printed, errors = running.communicate(timeout=PATIENCE)
    assert (running.returncode, errors) == (0, "")
    assert printed.count("goes on in epoch") >= 1
    assert outputs(project) == before


def start(project, host=None, environment=None):
    """Start the training, on this machine or on a host."""
    return subprocess.Popen(
        host.command(*TRAIN) if host else TRAIN,
        cwd=project.folder, env={**os.environ, "PYTHONPATH": "", **(environment or {})}, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_states(project, running):
    """Wait until the workers of a training have saved states."""
    for _ in range(100 * PATIENCE):
        if len(list(project.folder.glob(".resume/baseline-*.state"))) >= 2:
            return
        time.sleep(0.01)
    running.kill()
    pytest.fail("no states were saved in time")


def started(project):
    """Start the training, and wait until its workers have saved states; return its process and those of Ray."""
    running = start(project)
    wait_for_states(project, running)
    return running, psutil.Process(running.pid).children(recursive=True)


def wait_for_the_end_of(processes):
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert not alive


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "whom"),
    [("SIGTERM", "the parent"), ("SIGINT", "the whole group, as a terminal does")],
)
def test_a_signal_saves_the_state_of_every_task(project, name, whom):
    before, number = outputs(project), signal.Signals[name]
    running, processes = started(project)
    if whom == "the parent":
        running.send_signal(number)
    else:
        os.killpg(running.pid, number)
    _, errors = running.communicate(timeout=PATIENCE)
    assert errors == "interrupted; what was trained is kept: `dvc repro` goes on from there\n"
    assert running.returncode == 128 + number
    wait_for_the_end_of(processes)
    assert outputs(project) == before
    assert len(list(project.folder.glob(".resume/baseline-*.state"))) >= 2
    done = project.stage("train", "baseline")
    assert done.stdout.count("goes on in epoch") >= 1
    assert outputs(project) == before


@needs_ray
@pytest.mark.slow
def test_tasks_end_where_the_parent_was_killed(project):
    running, processes = started(project)
    names = {process: process.name() for process in processes}
    running.kill()
    running.communicate()
    # Ray's agents, which train nothing, look for their parent about once a minute.
    wait_for_the_end_of([process for process in processes if not names[process].endswith("Agent")])


@needs_ray
@pytest.mark.slow
def test_a_cluster_on_this_machine_listens_on_loopback_alone_and_leaves_nothing(project):
    running, processes = started(project)
    listening = [
        connection.laddr.ip
        for process in (psutil.Process(running.pid), *processes)
        if process.is_running()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    temporary = [path for process in processes for path in opened_under_tmp(process)]
    running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    assert len(listening) >= 5
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert temporary
    assert not [path for path in temporary if os.path.exists(path)]  # noqa: PTH110


def opened_under_tmp(process):
    """The logs that a process of Ray writes."""
    try:
        return [file.path for file in process.open_files() if "/session_" in file.path]
    except psutil.Error:
        return []
