"""The libraries' own downloads heed the variables that docs/data.md names: against a stand-in on this machine."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading

import pytest
import safetensors.torch
import torch

from stages.libraries import timm, torchvision
from tests.conftest import PATIENCE, ROOT

pytestmark = pytest.mark.slow

BUILD = """
from stages.errors import run_cli
from stages.models.network import build_network
from stages.params import Model

def main():
    network = build_network(Model(library="{}", name="{}", weights="default", layer_groups="stages"), 2, seed=1)
    print(next(iter(network.module.parameters())).double().sum().item())

run_cli(main)
"""
TIMM = BUILD.format("timm", "test_vit")
TORCHVISION = BUILD.format("torchvision", "squeezenet1_1")


@pytest.fixture
def stand_in():
    """A server that has the weights of one network as the hub has them, and refuses to be a proxy."""
    network = timm.create_model("test_vit")
    weights = safetensors.torch.save(network.state_dict())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            server.asked.append(f"{self.command} {self.path}")
            found = self.path == "/timm/test_vit.r160_in1k/resolve/main/model.safetensors"
            self.send_response(200 if found else 404)
            self.send_header("ETag", f'"{hashlib.sha256(weights).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(weights) if found else 0))
            self.end_headers()
            if found and self.command == "GET":
                self.wfile.write(weights)

        do_GET = do_HEAD  # noqa: N815

        def do_CONNECT(self):
            server.asked.append(f"CONNECT {self.path}")
            self.send_error(403)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.first = [], next(iter(network.parameters())).double().sum().item()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def build(tmp_path):
    """Return a function that builds a network in a process with nothing in its caches but what tests put there."""
    mine = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:3] != "HF_"}

    def run(code, **variables):
        homes = {"HF_HOME": str(tmp_path / "hub"), "TORCH_HOME": str(tmp_path / "torch")}
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=ROOT,
            env={**mine, **homes, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    return run


def test_timm_downloads_from_the_mirror_and_then_needs_none(build, stand_in):
    assert float(build(TIMM, HF_ENDPOINT=stand_in.url).stdout) == stand_in.first
    assert "GET /timm/test_vit.r160_in1k/resolve/main/model.safetensors" in stand_in.asked
    stand_in.asked.clear()
    assert float(build(TIMM, HF_HUB_OFFLINE="1").stdout) == stand_in.first
    assert stand_in.asked == []


def test_offline_with_an_empty_cache_there_is_one_line_at_once(build):
    done = build(TIMM, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: model.weights: the default weights of timm's test_vit could not be had (the hub is out"
    )
    assert "docs/data.md#behind-a-firewall" in line


@pytest.mark.parametrize(
    ("code", "host"),
    [(TIMM, "huggingface.co:443"), (TORCHVISION, "download.pytorch.org:443")],
    ids=["timm", "torchvision"],
)
def test_both_libraries_ask_the_proxy(build, stand_in, code, host):
    done = build(code, HTTPS_PROXY=stand_in.url)
    assert f"CONNECT {host}" in stand_in.asked
    assert "docs/data.md#behind-a-firewall" in done.stderr.splitlines()[-1]
    assert "the proxy" in done.stderr.splitlines()[-1]


def test_torchvision_takes_what_lies_in_its_cache(build, tmp_path):
    network = torchvision.models.squeezenet1_1()
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / "torch/hub/checkpoints/squeezenet1_1-b8a52dc0.pth")
    done = build(TORCHVISION, HTTPS_PROXY="http://127.0.0.1:9")
    assert float(done.stdout) == next(iter(network.parameters())).double().sum().item()
