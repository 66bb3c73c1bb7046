"""The Helm values and the GPU tags, given to what reads them in Dagster, up to the pod of a step."""

from typing import Any

import pytest
import yaml
from dagster import AssetsDefinition
from dagster._config import process_config
from dagster._config.field_utils import convert_potential_field
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
    """Every asset by its name, under a profile with such an execution."""
    profile = load_profile("sd15")
    values = profile.execution.model_dump() | execution
    profile = profile.model_copy(update={"execution": profile.execution.model_validate(values)})
    return {stage.__name__: stage(profile) for stage in ASSETS}


def pod_of(asset: AssetsDefinition, deployment: dict[str, Any]):
    """The pod that `k8s_job_executor` makes for the step of an asset, from the code server's context and the step's tags."""
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
    asked = K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(tags))
    job = DagsterK8sJobConfig(
        job_image="image", dagster_home="/srv/vdm_pipeline", instance_config_map="instance"
    )
    config = context.merge(asked).run_k8s_config
    made = construct_dagster_k8s_job(
        job, ["dagster", "api", "execute_step"], "step", user_defined_k8s_config=config
    )
    return made.spec.template.spec


DRAWN = {"generated_images", "baseline_images", "extra_images"}
LABELLED = {"image_embeddings", "labeled_dataset"}


@pytest.mark.parametrize(
    ("execution", "gpus"),
    [
        ({}, {name: 1 for name in {*LABELLED, "lora_weights", "image_metrics", *DRAWN}}),
        (
            {"num_processes": 4},
            {
                "image_metrics": 1,
                **{name: 1 for name in LABELLED},
                **{name: 4 for name in {"lora_weights", *DRAWN}},
            },
        ),
        ({"device": "cpu"}, {}),
        (
            {"engine": "ray", "ray": {"address": "auto", "gpus": 1}},
            {"labeled_dataset": 1, "lora_weights": 1, "image_metrics": 1},
        ),
    ],
    ids=["one", "four processes", "CPU", "on Ray's workers"],
)
def test_each_step_asks_for_the_gpus_that_it_uses(deployment, execution, gpus):
    for name, asset in assets(**execution).items():
        (container,) = pod_of(asset, deployment).containers
        if asset.op.pool != "gpu":
            assert name not in gpus
        asked = gpus.get(name, 0)
        assert container.resources.limits == ({"nvidia.com/gpu": str(asked)} if asked else None), name
        assert asset.op.tags.get("dagster-ray/config") == (f'{{"num_gpus": {asked}}}' if asked else None), (
            name
        )


def test_a_steps_pod_has_the_projects_folders_and_environment(deployment):
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
    assert {one.name: one.value for one in container.env}["VDM_EXECUTOR"] == "k8s"
    assert container.security_context.capabilities.drop == ["ALL"]
    made = {
        claim["metadata"]["name"]: claim["spec"]
        for claim in yaml.safe_load_all((FOLDER / "claims.yaml").read_text())
    }
    assert {name: spec["accessModes"] for name, spec in made.items()} == {
        name: ["ReadWriteMany"] for name in claims.values()
    }


def test_the_run_launcher_takes_its_values(values):
    launcher = values["runLauncher"]
    assert launcher["type"] == "K8sRunLauncher"
    given = launcher["config"]["k8sRunLauncher"]
    told = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": values["global"]["dagsterHome"],
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "load_incluster_config": given["loadInclusterConfig"],
        "image_pull_policy": given["imagePullPolicy"],
        "security_context": given["securityContext"],
        "run_k8s_config": {"pod_spec_config": given["runK8sConfig"]["podSpecConfig"]},
    }
    found = process_config(convert_potential_field(K8sRunLauncher.config_type()).config_type, told)
    assert found.success, found.errors
    pod = UserDefinedDagsterK8sConfig.from_dict(found.value["run_k8s_config"]).pod_spec_config
    assert pod["security_context"]["run_as_non_root"] is True


def test_the_instance_is_the_containers(values):
    """But for the database, which the chart writes itself, and paths, which are absolute as the chart mounts its own file."""
    ours = yaml.safe_load((FOLDER.parent / "dagster.yaml").read_text())
    logs = values["computeLogManager"]["config"]["customComputeLogManager"]
    for own, given in (
        (ours["compute_logs"], logs),
        *((ours[name], one) for name, one in values["additionalInstanceConfig"].items()),
    ):
        assert given == own | {"config": {"base_dir": f"/srv/vdm_pipeline/{own['config']['base_dir']}"}}
    pools, runs = values["concurrency"]["pools"], values["concurrency"]["runs"]
    assert ours["concurrency"]["pools"] == {
        "default_limit": pools["defaultLimit"],
        "granularity": pools["granularity"],
    }
    assert ours["concurrency"]["runs"] == {"max_concurrent_runs": runs["maxConcurrentRuns"]}
    assert values["telemetry"] == ours["telemetry"]


def test_nothing_is_reached_from_outside_the_cluster(values):
    assert values["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    assert values["ingress"]["enabled"] is False
    assert not PUBLISHED & set((FOLDER / "values.yaml").read_text().split())


def test_no_password_is_shipped(values):
    assert values["generatePostgresqlPasswordSecret"] is False
    assert values["postgresql"]["existingSecret"] == values["global"]["postgresqlSecretName"]
    assert "postgresqlPassword" not in values["postgresql"]


def test_all_services_are_the_same_image_and_none_runs_as_root(values, deployment):
    for service in (values["dagsterWebserver"], values["dagsterDaemon"], deployment):
        assert service["image"] == deployment["image"]
        assert service["podSecurityContext"]["runAsNonRoot"] is True
        assert service["securityContext"]["allowPrivilegeEscalation"] is False
    assert deployment["dagsterApiGrpcArgs"] == ["-m", "vdm_pipeline.definitions"]
