"""Dagster turns the Helm values and the GPU tags into the expected pods."""

from typing import Any

import pytest
import yaml
from dagster import AssetsDefinition
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
    get_user_defined_k8s_config,
)

from vdm_pipeline.defs.assets import ASSETS
from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.dagster_internals import resolve_config
from vdm_pipeline_tests.paths import ROOT

FOLDER = ROOT / "docker/kubernetes"
PUBLISHED = {"NodePort", "LoadBalancer"}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "values.yaml").read_text())


@pytest.fixture(scope="module")
def deployment(values) -> dict[str, Any]:
    (only,) = values["dagster-user-deployments"]["deployments"]
    return only


def assets(**execution: object) -> dict[str, AssetsDefinition]:
    """Every asset by name, for the sd15 profile with these execution settings."""
    profile = load_profile("sd15")
    values = profile.execution.model_dump() | execution
    profile = profile.model_copy(update={"execution": profile.execution.model_validate(values)})
    created = [create(profile) for create in ASSETS]
    return {asset.key.to_user_string(): asset for asset in created}


def pod_of(asset: AssetsDefinition, deployment: dict[str, Any]):
    """The pod of an asset's step, from the code server's context and the step's tags."""
    tags = asset.op.tags
    context = K8sContainerContext.create_from_config(
        {
            "k8s": {
                "image_pull_policy": deployment["image"]["pullPolicy"],
                "env": deployment["env"],
                "volumes": deployment["volumes"],
                "volume_mounts": deployment["volumeMounts"],
                "security_context": deployment["securityContext"],
            }
        }
    )
    of_step = K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(tags))
    job = DagsterK8sJobConfig(
        job_image="image", dagster_home="/srv/vdm_pipeline", instance_config_map="instance"
    )
    config = context.merge(of_step).run_k8s_config
    arguments = ["dagster", "api", "execute_step"]
    k8s_job = construct_dagster_k8s_job(job, arguments, "step", user_defined_k8s_config=config)
    return k8s_job.spec.template.spec


GENERATED = {"generated_images", "baseline_images", "extra_images"}
LABELLED = {"image_embeddings", "labeled_dataset"}


@pytest.mark.parametrize(
    ("execution", "gpus"),
    [
        ({}, {name: 1 for name in {*LABELLED, "lora_weights", "image_metrics", *GENERATED}}),
        (
            {"num_processes": 4},
            {
                "image_metrics": 1,
                **{name: 1 for name in LABELLED},
                **{name: 4 for name in {"lora_weights", *GENERATED}},
            },
        ),
        ({"device": "cpu"}, {}),
        (
            {"engine": "ray", "ray": {"address": "auto", "gpus": 1}},
            {"labeled_dataset": 1, "lora_weights": 1, "image_metrics": 1},
        ),
    ],
    ids=["one process", "four processes", "CPU", "Ray workers"],
)
def test_each_step_requests_the_gpus_that_it_uses(deployment, execution, gpus):
    by_name = assets(**execution)
    assert set(gpus) <= set(by_name)
    for name, asset in by_name.items():
        (container,) = pod_of(asset, deployment).containers
        if asset.op.pool != "gpu":
            assert name not in gpus
        count = gpus.get(name, 0)
        limits = {"nvidia.com/gpu": str(count)} if count else None
        ray_config = f'{{"num_gpus": {count}}}' if count else None
        assert container.resources.limits == limits, name
        assert asset.op.tags.get("dagster-ray/config") == ray_config, name


def test_pod_of_a_step_has_the_folders_and_environment_of_the_project(deployment):
    pod = pod_of(assets()["lora_weights"], deployment)
    (container,) = pod.containers
    claims = {
        volume.name: volume.persistent_volume_claim.claim_name
        for volume in pod.volumes
        if volume.persistent_volume_claim
    }
    mounted = {
        mount.mount_path: claims[mount.name] for mount in container.volume_mounts if mount.name in claims
    }
    assert mounted == {"/srv/vdm_pipeline/data": "vdm-data", "/srv/vdm_pipeline/results": "vdm-results"}
    assert {variable.name: variable.value for variable in container.env}["VDM_EXECUTOR"] == "k8s"
    assert container.security_context.capabilities.drop == ["ALL"]
    specs = {
        claim["metadata"]["name"]: claim["spec"]
        for claim in yaml.safe_load_all((FOLDER / "claims.yaml").read_text())
    }
    assert {name: spec["accessModes"] for name, spec in specs.items()} == {
        name: ["ReadWriteMany"] for name in claims.values()
    }


def test_run_launcher_accepts_the_values(values):
    launcher = values["runLauncher"]
    assert launcher["type"] == "K8sRunLauncher"
    given = launcher["config"]["k8sRunLauncher"]
    config = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": values["global"]["dagsterHome"],
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "load_incluster_config": given["loadInclusterConfig"],
        "image_pull_policy": given["imagePullPolicy"],
        "security_context": given["securityContext"],
        "run_k8s_config": {"pod_spec_config": given["runK8sConfig"]["podSpecConfig"]},
    }
    resolved = resolve_config(K8sRunLauncher.config_type(), config)
    pod = UserDefinedDagsterK8sConfig.from_dict(resolved["run_k8s_config"]).pod_spec_config
    assert pod["security_context"]["run_as_non_root"] is True


def test_instance_is_that_of_the_container(values):
    """Except for the database, which the chart sets itself, and paths, which the chart needs absolute."""
    ours = yaml.safe_load((FOLDER.parent / "dagster.yaml").read_text())
    logs = values["computeLogManager"]["config"]["customComputeLogManager"]
    pairs = [(ours[name], section) for name, section in values["additionalInstanceConfig"].items()]
    for own, given in [(ours["compute_logs"], logs), *pairs]:
        assert given == own | {"config": {"base_dir": f"/srv/vdm_pipeline/{own['config']['base_dir']}"}}
    pools, runs = values["concurrency"]["pools"], values["concurrency"]["runs"]
    assert ours["concurrency"]["pools"] == {
        "default_limit": pools["defaultLimit"],
        "granularity": pools["granularity"],
    }
    assert ours["concurrency"]["runs"] == {"max_concurrent_runs": runs["maxConcurrentRuns"]}
    assert values["telemetry"] == ours["telemetry"]


def test_no_service_is_reachable_from_outside_the_cluster(values):
    assert values["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    assert values["ingress"]["enabled"] is False
    assert not PUBLISHED & set((FOLDER / "values.yaml").read_text().split())


def test_no_password_is_shipped(values):
    assert values["generatePostgresqlPasswordSecret"] is False
    assert values["postgresql"]["existingSecret"] == values["global"]["postgresqlSecretName"]
    assert "postgresqlPassword" not in values["postgresql"]


def test_all_services_use_one_image_without_root(values, deployment):
    for service in (values["dagsterWebserver"], values["dagsterDaemon"], deployment):
        assert service["image"] == deployment["image"]
        assert service["podSecurityContext"]["runAsNonRoot"] is True
        assert service["securityContext"]["allowPrivilegeEscalation"] is False
    assert deployment["dagsterApiGrpcArgs"] == ["-m", "vdm_pipeline.definitions"]
