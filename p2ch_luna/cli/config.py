"""`luna config`: what a run's config says, and whether it can be run here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import echo_json, json_option, set_option
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.config import RunConfig
    from p2ch_luna.datasets.collection import Known, Sources


@click.group()
def config() -> None:
    """Show or check a run's config.

    \b
    luna config show configs/nodule.toml --set optim.lr=3e-4
    luna config check configs/*.toml
    """


@config.command()
@click.argument("config", type=click.Path(path_type=Path))
@set_option
@json_option
def show(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print CONFIG as a run would have it, as TOML."""
    from p2ch_luna.config import as_toml, load_config

    run = load_config(config, overrides)
    if as_json:
        echo_json(run.model_dump(mode="json"))
    else:
        click.echo(as_toml(run), nl=False)


@config.command()
@click.argument("configs", metavar="CONFIG...", type=click.Path(path_type=Path), nargs=-1, required=True)
@set_option
@click.pass_context
def check(ctx: click.Context, configs: tuple[Path, ...], overrides: tuple[str, ...]) -> None:
    """Say of each CONFIG whether it can be run here.

    Its keys and values, the paths that it names, the models among these, and whether its folds have what
    its samples are drawn from; no scan is read. Exits with 1 if one has a problem; the first of each file
    is told.
    """
    is_good = True
    for path in configs:
        try:
            click.echo(f"{path}: good: {_check(path, overrides)}")
        except LunaError as error:
            click.echo(f"luna: error: {error}", err=True)
            is_good = False
    ctx.exit(0 if is_good else 1)


def _check(path: Path, overrides: tuple[str, ...]) -> str:
    """What is there for this config. Raises LunaError, which begins with the path."""
    from p2ch_luna.config import load_config
    from p2ch_luna.datasets.collection import Sources, read_known
    from p2ch_luna.datasets.data_check import check_paths

    run = load_config(path, overrides)
    sources = Sources(**run.data.sources())
    try:
        check_paths(sources)
        _check_models(run)
        return _summary(run, sources, read_known(sources))
    except LunaError as error:
        raise LunaError(f"{path}: {error}") from error


def _check_models(run: RunConfig) -> None:
    """Raise LunaError where the network cannot be built, or begin or be judged with the models named."""
    from p2ch_luna.models.checkpoint import load_model
    from p2ch_luna.training.checks import proposer
    from p2ch_luna.training.start import start_model

    start = run.start
    init_from = _weights("start.init_from", start.init_from)
    arguments = run.model.model_dump(mode="json", exclude={"name"})
    start_model(run.model.name, arguments, init_from=init_from, new=start.new, frozen=start.frozen)
    if weights := proposer(run):
        load_model(weights, builder="segmentation_unet")


def _weights(key: str, named: str) -> Path | None:
    """The model that a key names; None where it names none."""
    from p2ch_luna.models.checkpoint import weights_at

    try:
        return weights_at(Path(named)) if named else None
    except LunaError as error:
        raise LunaError(f"{key}: {error}") from error


def _summary(run: RunConfig, sources: Sources, known: Known) -> str:
    """The task and what either side has. Raises LunaError where a fold or a side has nothing."""
    from p2ch_luna.datasets.data_check import count_samples, drawn_from
    from p2ch_luna.datasets.fold_check import check_folds, count_in

    told = [f"task {run.task}"]
    for side, folds, hosts in (
        ("train", run.data.train_folds, known.hosts),
        ("validation", run.data.validation_folds, known.validation_hosts),
    ):
        key = f"data.{side}_folds"
        check_folds(known, folds, key)
        counts = count_in(known, folds)
        if not counts.scans and not hosts:
            raise LunaError(f"{key} = {list(folds)}: no scan and no host; wanted one")
        trains = side == "train"
        n_items = count_samples(known, sources, folds, trains=trains)
        drawn_from(run.sampling.model_dump(), n_items, trains=trains)
        things = {"scan": counts.scans, "LIDC nodule": counts.crops, "host": len(hosts)}
        named = ", ".join(f"{n} {thing}{'s' * (n > 1)}" for thing, n in things.items() if n)
        told.append(f"{side} folds {', '.join(map(str, folds)) or 'none'}: {named}")
    return "; ".join(told)
