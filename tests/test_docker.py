"""The image and the composition. No engine runs here: files are linted, and the steps that need none are run.

`COPY` is checked by building from what is copied alone, `RUN` of the build stage by running it in a folder of
its own. That the base image exists, and what is done in it as root, is not seen here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from p2ch_luna.cli import cli
from support.installed import BUILD, copied, copy_of_what_is_copied, stages

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
TOOLS = Path(sys.executable).parent


SERVE = "python:${PYTHON} AS serve"
DEVICES = ["cpu", "cuda"]


def rest_of(word: str, stage: str = SERVE) -> list[str]:
    return [rest for name, rest in stages()[stage] if name == word]


def served(device: str) -> list[str]:
    """The CMD of the image for a device."""
    (command,) = rest_of("CMD", f"serve AS {device}")
    words: list[str] = json.loads(command)
    return words


def composition() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return loaded


def parse(words: Sequence[str]) -> click.Context:
    """Parse a `luna` command without reading what its values name. Raises click.UsageError."""
    command: click.Command = cli
    names = list(words)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), names[0])
        if found is None:
            raise click.UsageError(f"no command {names[0]}")
        command = found
        names.pop(0)
    context = click.Context(command)
    values, _, _ = command.make_parser(context).parse_args(names)
    context.params = values
    return context


SERVICES = sorted(composition()["services"])
OURS = [name for name in SERVICES if name != "orthanc"]


def test_the_dockerfile_has_no_lint() -> None:
    done = subprocess.run([TOOLS / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_the_composition_is_one_by_the_specification() -> None:
    check = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "compose.yaml"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", copied())
def test_what_is_copied_exists_and_is_sent_to_the_engine(name: str) -> None:
    sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert (ROOT / name).exists()
    assert f"!/{name}" in sent


def test_nothing_is_sent_to_the_engine_that_is_not_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[2:] for rule in rules if rule.startswith("!")} == {*copied(), "data"}
    assert "/data/*" in rules


def test_the_image_does_not_run_as_root() -> None:
    assert rest_of("USER") == ["10001:10001"]


@pytest.mark.parametrize("device", DEVICES)
def test_the_image_serves_by_options_that_there_are(device: str) -> None:
    options = parse(served(device)).params
    assert options["host"] == "0.0.0.0"
    assert (str(options["folder"]), str(options["token_file"])) == ("/data", "/run/secrets/luna_token")
    assert options["device"] == device


def test_the_image_is_the_last_stage_and_its_device_an_argument_with_a_default() -> None:
    assert list(stages())[-1] == "${DEVICE}"
    assert "DEVICE=cpu" in rest_of("ARG", "")
    assert "DEVICE" in rest_of("ARG", BUILD)


def test_only_the_image_for_the_cpu_has_openvino_and_uses_it() -> None:
    (install,) = [step for step in rest_of("RUN", BUILD) if "openvino" in step]
    assert 'if [ "$DEVICE" = cpu ]; then extras=serve,openvino; fi' in install
    assert [parse(served(device)).params.get("runtime") for device in DEVICES] == ["openvino", None]


@pytest.mark.parametrize("device", DEVICES)
def test_the_port_is_one_everywhere(device: str) -> None:
    (port,) = rest_of("EXPOSE")
    (health,) = rest_of("HEALTHCHECK")
    assert str(parse(served(device)).params["port"]) == port
    assert f"127.0.0.1:{port}/health" in health
    assert composition()["services"]["serve"]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("name", ["watch", "watch-cuda"])
def test_the_watch_is_started_by_options_that_there_are(name: str) -> None:
    service = composition()["services"][name]
    watching = parse(service["command"]).params
    assert watching["url"] == "http://orthanc:8042/dicom-web"
    assert [f"watched:{watching['folder']}"] == service["volumes"]


@pytest.mark.parametrize(("name", "device"), [("watch", "cpu"), ("watch-cuda", "cuda")])
def test_the_watch_computes_as_the_service_does(name: str, device: str) -> None:
    watching, serving = parse(composition()["services"][name]["command"]).params, parse(served(device)).params
    assert watching["device"] == serving["device"] == device
    assert watching.get("runtime") == serving.get("runtime")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_locked_down(name: str) -> None:
    service = composition()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_published_on_this_machine_alone(name: str) -> None:
    ports = composition()["services"][name].get("ports", [])
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_a_profile_is_built_for_its_device(name: str) -> None:
    service = composition()["services"][name]
    device = service["build"]["args"]["DEVICE"]
    assert device in DEVICES
    assert service["profiles"] == [device]
    assert service["image"] == f"p2ch-luna:{device}"
    assert ("deploy" in service) == (device == "cuda")


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_is_written_into_the_composition(name: str) -> None:
    given = composition()["services"][name].get("environment", {})
    secret = [value for key, value in given.items() if key.endswith(("PASSWORD", "USERS", "TOKEN"))]
    assert all("${ORTHANC_PASSWORD:?" in value for value in secret)


def steps() -> list[str]:
    """The commands of the manual that compose runs."""
    return re.findall(r"^docker compose [^\n#]+", (ROOT / "docs/serve.md").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("line", steps())
def test_the_steps_of_the_manual_name_services_and_profiles_that_there_are(line: str) -> None:
    words = line.split()
    named = {after for word, after in pairwise(words) if word == "--profile"}
    assert named <= {profile for name in OURS for profile in composition()["services"][name]["profiles"]}
    verbs = {"logs", "exec", "restart", "stop", "run"} & set(words)
    places = [word for verb in verbs for word in words[words.index(verb) + 1 :] if word[0] != "-"]
    assert not places or places[0] in SERVICES


def run_build(folder: Path) -> Path:
    """Do the RUN steps of the build stage with its folders moved; the environment that comes of it."""
    build, made = copy_of_what_is_copied(folder / "build"), folder / "luna"
    subprocess.run([sys.executable, "-m", "venv", folder / "python"], check=True)  # of the base image
    path = f"{folder / 'python/bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "DEVICE": "cpu", "TORCH_CPU_INDEX": index(), "PATH": path}
    for step in rest_of("RUN", BUILD):
        moved = step.replace("/opt/luna", str(made)).replace("/build/", f"{build}/")
        subprocess.run(["bash", "-euo", "pipefail", "-c", moved], cwd=build, env=environment, check=True)
    return made


def index() -> str:
    """Where pip finds packages here, instead of PyTorch's own index."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "https://pypi.org/simple"


def command_at(folder: Path) -> list[str]:
    """The CMD of the CPU's image with its places moved into the folder, on a free port of this machine."""
    moved = {"0.0.0.0": "127.0.0.1", "8000": "0", "/data": f"{folder}/data"}
    moved["/run/secrets/luna_token"] = f"{folder}/luna_token"
    return [moved.get(word, word) for word in served("cpu")]


@pytest.mark.slow
def test_the_steps_of_the_build_give_a_service_that_is_healthy(tmp_path: Path) -> None:
    """The RUN steps of the first stage, then CMD and HEALTHCHECK of the image for the CPU."""
    programs = run_build(tmp_path) / "bin"
    (tmp_path / "luna_token").write_text("a-token-that-is-long-enough\n", "utf-8")
    command = [programs / "luna", *command_at(tmp_path)]
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            check = json.loads(rest_of("HEALTHCHECK")[0].split("CMD", 1)[1])
            check = [word.replace("http://127.0.0.1:8000", address_in(log)) for word in check]
            assert subprocess.run([programs / check[0], *check[1:]], check=False).returncode == 0
        finally:
            server.terminate()
            code = server.wait(60)
    assert code == 0


def address_in(log: Path) -> str:
    """Of the server, once it listens."""
    for _ in range(600):
        found = re.search(r"http://[0-9.]+:\d+", log.read_text("utf-8"))
        if found:
            return found[0]
        time.sleep(0.1)
    raise TimeoutError(log.read_text("utf-8"))
