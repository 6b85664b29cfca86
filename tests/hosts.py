"""Several hosts on this machine, each with a name, an address, processes, /tmp and /run of its own, on one network.

They are namespaces of Linux (`man 7 namespaces`), which root may make, and share the rest of the disk, and the .venv
wherever it is, for a clone may be under /tmp.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("ip", "nft", "unshare", "nsenter")
UNSHARED = ("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
NETWORK = "10.77.0"
BOOT = """
set -e
hostname "$1"
mount -t tmpfs tmpfs /run
mkdir /run/disk /run/python
mount --bind "$3" /run/disk
mount --bind "$5" /run/python
mount -t tmpfs tmpfs /tmp
mkdir -p "$4" "$5"
mount --bind /run/disk "$4"
mount --bind /run/python "$5"
printf '127.0.0.1 localhost\n%s' "$2" > /run/hosts
mount --bind /run/hosts /etc/hosts
echo ready
exec sleep infinity
"""


def can_be_made() -> bool:
    """Whether there are the programs, and this user may make namespaces."""
    if os.geteuid() != 0 or not all(shutil.which(program) for program in PROGRAMS):
        return False
    probe = [*UNSHARED, "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_hosts = pytest.mark.skipif(
    not can_be_made(), reason="needs root, who may make network namespaces, `ip` and `nft`, which `make hosts` gets"
)


@dataclass(frozen=True)
class Host:
    """One of them.

    Attributes:
        name: its own.
        address: in their network.
        power: the process with which all others there end.
    """

    name: str
    address: str
    power: subprocess.Popen

    def command(self, *command: str) -> list[str]:
        """Return what runs a command there, in the working directory of who starts it."""
        namespaces = ("--net", "--uts", "--mount", "--pid")
        return ["nsenter", f"--target={_first_process(self.power)}", *namespaces, "--wd=.", *command]

    def close_ports_but(self, ports: str) -> None:
        """Drop what comes from other hosts to other TCP ports, by a list as nft takes it."""
        rules = ("iifname lo accept", "ct state established accept", f"tcp dport {{ {ports} }} accept")
        lines = (
            "add table inet filter",
            "add chain inet filter input { type filter hook input priority 0; policy drop; }",
            *(f"add rule inet filter input {rule}" for rule in rules),
        )
        _run(*self.command("nft", "\n".join(lines)))

    def lose_power(self) -> None:
        """End all its processes at once, and its network with them."""
        self.power.kill()
        self.power.wait()


@contextmanager
def hosts(folder: Path, **disks: Path) -> Iterator[list[Host]]:
    """Start hosts, and leave nothing of them behind.

    Args:
        folder: that each of them has a disk in.
        disks: name of a host -> folder that is this disk; the same one for two is a disk that they share.
    """
    switch = f"switch-{os.getpid()}"
    addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(disks, start=1)}
    with ExitStack() as stack:
        _run("ip", "netns", "add", switch)
        stack.callback(_run, "ip", "netns", "del", switch)
        _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge", "up")
        yield [stack.enter_context(_host(name, addresses, switch, disks[name], folder)) for name in disks]


@contextmanager
def _host(name: str, addresses: dict[str, str], switch: str, disk: Path, folder: Path) -> Iterator[Host]:
    """Start a host, and plug it into a switch."""
    known = "".join(f"{address} {other}\n" for other, address in addresses.items())
    boot = ("sh", "-c", BOOT, "boot", name, known, str(disk), str(folder), sys.prefix)
    with subprocess.Popen([*UNSHARED, *boot], stdout=subprocess.PIPE) as power:
        host = Host(name, addresses[name], power)
        try:
            assert power.stdout
            assert power.stdout.readline() == b"ready\n"
            cable = ("type", "veth", "peer", "name", "eth0", "netns", str(_first_process(power)))
            _run("ip", "-n", switch, "link", "add", name, *cable)
            _run("ip", "-n", switch, "link", "set", name, "master", "bridge", "up")
            _run(*host.command("ip", "addr", "add", f"{host.address}/24", "dev", "eth0"))
            for device in ("lo", "eth0"):
                _run(*host.command("ip", "link", "set", device, "up"))
            yield host
        finally:
            host.lose_power()


def _first_process(power: subprocess.Popen) -> int:
    """Return the number, on this machine, of the process that is 1 on a host."""
    return int(Path(f"/proc/{power.pid}/task/{power.pid}/children").read_text())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: {done.stderr}")
