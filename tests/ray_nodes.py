"""Run a command beside a Ray cluster on this machine, and kill its nodes meanwhile; exit as the command does.

python tests/ray_nodes.py NODES KILLS SEED COMMAND...

NODES is a JSON list of what differs from node to node: `name`, `env`. Each has one core; the head has none, so that
any node that trains may be killed. The command finds the cluster under RAY_ADDRESS, which `ray.address: auto` reads.
Another node takes the place of one that was killed. The last line of stdout is the number of kills.
"""

import json
import os
import random
import secrets
import subprocess
import sys

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback alone
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}

from ray.cluster_utils import Cluster

LONGEST = 30.0  # seconds between two kills: a task takes ten or so to begin


def main() -> None:
    nodes, kills, chance = json.loads(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    training = [add_node(cluster, node) for node in nodes]
    process = subprocess.Popen(sys.argv[4:], env={**os.environ, "RAY_ADDRESS": cluster.address})
    try:
        done = 0
        while True:
            try:
                process.wait(chance.uniform(0.5, LONGEST) if done < kills else None)
                break
            except subprocess.TimeoutExpired:
                number = chance.randrange(len(nodes))
                cluster.remove_node(training[number], allow_graceful=False)
                training[number] = add_node(cluster, nodes[number])
                done += 1
        print(done)
    finally:
        process.kill()  # where this script has failed before it
        cluster.shutdown()
    sys.exit(process.returncode)


def add_node(cluster: Cluster, node: dict) -> object:
    return cluster.add_node(num_cpus=1, node_name=node.get("name"), env_vars=node.get("env"))


if __name__ == "__main__":
    main()
