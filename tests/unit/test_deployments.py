"""The files for installations: does a broker take what they set, and do they agree with one another?

Against the schemas of their engines they are checked in tests/integration/test_deployments.py.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from lograft.client.cli import monitoring_files
from lograft.node.config import BrokerConfig, load_config

CONFIGS = Path(__file__).parents[2] / "cluster-configs"
SECRET = "a secret of more than sixteen bytes"


def the_compose_file() -> dict[str, Any]:
    text = (CONFIGS / "docker" / "compose.yml").read_text()
    given = {"LOGRAFT_SECRET": SECRET}
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: given[found[1]], text)
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


def the_image_environment() -> dict[str, str]:
    text = (CONFIGS / "docker" / "Dockerfile").read_text()
    return dict(re.findall(r"(LOGRAFT_\w+)=(\S+)", text))


def the_manifests() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((CONFIGS / "kubernetes" / "lograft.yaml").read_text())
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}


def assert_one_cluster(configs: list[BrokerConfig]) -> None:
    assert [config.broker.id for config in configs] == [0, 1, 2]
    assert len({tuple(sorted(config.cluster.peers.items())) for config in configs}) == 1
    assert len({config.advertise.grpc for config in configs}) == len(configs)
    for config in configs:
        assert config.cluster.secret == SECRET
        assert config.cluster.peers.keys() == {0, 1, 2}
        assert config.listen.peer.endswith(":9601") and config.cluster.peers[config.broker.id].endswith(":9601")
        assert config.broker.data_directory == "/var/lib/lograft"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


def test_every_stored_configuration_is_one_that_a_broker_takes(secret_file: Path) -> None:
    seen = set()
    for path in CONFIGS.rglob("*.toml"):
        environment = {"LOGRAFT_BROKER__ID": "0", "LOGRAFT_BROKER__DATA_DIRECTORY": "/data"}
        settings = tomllib.loads(path.read_text())
        if len(settings.get("cluster", {}).get("peers", {})) > 1:
            environment["LOGRAFT_CLUSTER__SECRET_FILE"] = str(secret_file)
        assert load_config(path, environment).broker.id == 0, path
        seen.add(path.name)
    assert seen == {"single.toml", "local-3.toml", "three-brokers.toml", "broker.toml"}


def test_brokers_on_three_machines_differ_by_their_number_alone(secret_file: Path) -> None:
    path = CONFIGS / "three-brokers.toml"
    configs = [
        load_config(
            path,
            {
                "LOGRAFT_BROKER__ID": str(number),
                "LOGRAFT_CLUSTER__SECRET_FILE": str(secret_file),
                "LOGRAFT_ADVERTISE__GRPC": f"machine-{number}:9600",  # else this machine's name, thrice
            },
        )
        for number in range(3)
    ]
    assert_one_cluster(configs)


def test_brokers_of_the_compose_file_form_one_cluster_and_are_found_on_the_ports_that_are_published() -> None:
    services = the_compose_file()["services"]
    brokers = [services[f"broker-{number}"] for number in range(3)]
    configs = []
    for broker in brokers:
        environment = {**the_image_environment(), **broker["environment"]}
        config = load_config(CONFIGS / "docker" / "broker.toml", environment)
        port = config.advertise.grpc.rpartition(":")[2]
        assert broker["ports"] == [f"{port}:{port}"] and config.listen.grpc == f"0.0.0.0:{port}"
        assert config.cluster.peers[config.broker.id] == f"{broker['hostname']}:9601"
        configs.append(config)
    assert_one_cluster(configs)
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source in the_compose_file()["volumes"] or (CONFIGS / "docker" / source).exists(), source


def test_prometheus_of_the_compose_file_is_what_is_generated_for_its_brokers() -> None:
    config = monitoring_files.prometheus_config([f"broker-{number}:9602" for number in range(3)])
    assert (CONFIGS / "docker" / "prometheus.yml").read_text() == config


def test_pods_form_one_cluster_whose_names_are_those_of_the_headless_service(tmp_path: Path, secret_file: Path) -> None:
    manifests = the_manifests()
    pods = manifests["StatefulSet/lograft"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {9600, 9601, 9602}
    assert container["args"] == ["broker", "-c", "/etc/lograft/broker.toml"]
    path = tmp_path / "broker.toml"
    path.write_text(manifests["ConfigMap/lograft"]["data"]["broker.toml"])
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert tomllib.loads(path.read_text())["cluster"]["secret_file"] == "/etc/lograft-secret/secret"
    assert {"/etc/lograft-secret", "/etc/lograft", "/var/lib/lograft"} <= mounts
    configs = []
    for number in range(pods["replicas"]):
        pod = f"{pods['template']['metadata']['labels']['app.kubernetes.io/name']}-{number}"
        environment = {**the_image_environment(), "LOGRAFT_CLUSTER__SECRET_FILE": str(secret_file)}
        for one in container["env"]:
            value = one.get("value") or {"POD_NAME": pod, "LOGRAFT_BROKER__ID": str(number)}[one["name"]]
            environment[one["name"]] = value.replace("$(POD_NAME)", pod)
        config = load_config(path, environment)
        assert config.cluster.peers[number] == f"{pod}.{pods['serviceName']}:9601"
        assert config.advertise.grpc == f"{pod}.{pods['serviceName']}.lograft:9600"
        configs.append(config)
    assert_one_cluster(configs)


def test_pods_find_one_another_before_they_are_ready_and_start_together() -> None:
    manifests = the_manifests()
    headless = manifests["Service/lograft-brokers"]["spec"]
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"] is True
    pods = manifests["StatefulSet/lograft"]["spec"]
    assert pods["serviceName"] == "lograft-brokers" and pods["podManagementPolicy"] == "Parallel"
    labels = pods["template"]["metadata"]["labels"]
    assert pods["template"]["spec"]["enableServiceLinks"] is False
    for name in ("Service/lograft-brokers", "Service/lograft"):
        assert manifests[name]["spec"]["selector"].items() <= labels.items()
    for name in ("PodDisruptionBudget/lograft", "StatefulSet/lograft"):
        assert manifests[name]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_unit_hides_nothing_that_recovery_reads() -> None:
    unit = (CONFIGS / "systemd" / "lograft.service").read_text()
    settings = [line for line in unit.splitlines() if line and not line.startswith("#")]
    assert not [line for line in settings if line.startswith("ProcSubset")], "it would hide boot_id"
    assert "StateDirectory=lograft" in settings
    assert "ExecStart=/opt/lograft/bin/lograft broker -c /etc/lograft/broker.toml" in settings
