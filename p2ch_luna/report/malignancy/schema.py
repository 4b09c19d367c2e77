"""How well networks tell malignant nodules from benign ones, against the diameter alone: a versioned schema.

The classes are what LIDC's readers thought. A nodule between them is indeterminate and in no AUC.
"""

from __future__ import annotations

from p2ch_luna import __version__
from p2ch_luna.datasets.lidc_labels import BENIGN, MALIGNANT
from p2ch_luna.frozen import Frozen
from p2ch_luna.report import RESEARCH_ONLY

SCHEMA_VERSION = "1.1"  # the first number changes where an old reader would fail
SUSPICION = (
    f"Radiologist suspicion, not pathology: malignant is a mean rating from {MALIGNANT:g} on, benign up to "
    f"{BENIGN:g}."
)


class Auc(Frozen):
    """None where a class is absent; the interval also where one has a single nodule."""

    auc: float | None
    auc_95: tuple[float, float] | None  # DeLong's, which takes nodules as independent


class Gain(Frozen):
    """How much larger the first of two AUCs of the same nodules is."""

    difference: float | None
    difference_95: tuple[float, float] | None  # paired, DeLong's
    p: float | None  # two-sided, of no difference; DeLong's too, so that it is rather too small
    by_patient_95: tuple[float, float] | None  # of patients drawn with replacement, whose nodules are alike

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """The one to judge by: nodules of one patient are not independent."""
        return self.by_patient_95 or self.difference_95


class Figures(Frozen):
    """Of some nodules: what the network, the diameter and both together tell."""

    name: str
    benign: int
    malignant: int
    network: Auc
    diameter: Auc
    both: Auc | None  # a logistic regression fitted on the nodules of the other runs; None: there is one run
    network_gain: Gain  # on the diameter
    both_gain: Gain | None


class Bin(Frozen):
    """Of the nodules of one range of probability."""

    probability: float  # said on average
    frequency: float  # share of malignant ones
    nodules: int


class Reliability(Frozen):
    """How far the probability can be taken at its word."""

    calibration_error: float
    brier: float
    bins: tuple[Bin, ...]


class Indeterminate(Frozen):
    """The nodules between benign and malignant."""

    nodules: int
    mean_probability: float | None
    called_malignant: float | None  # share with a probability of 0.5 or more


class Judge(Frozen):
    """A network and whom it judged."""

    run: str
    weights_sha256: str
    folds: tuple[int, ...]
    hosts: tuple[str, ...]  # scans that the nodules were set into …
    seen_hosts: tuple[str, ...]  # … and those of them whose patient it has learnt from
    epochs: int | None  # that one was kept of; None: its card does not say
    recipe: dict[str, str]  # how it was made, see `malignancy_recipe.recipe_of`
    nodules: int
    temperature: float | None  # fitted on the nodules of the other runs; None: there is one run


class MalignancyReport(Frozen):
    """All that `luna malignancy` tells."""

    schema_version: str = SCHEMA_VERSION
    software: str = f"p2ch-luna {__version__}"
    statement: str = RESEARCH_ONLY
    suspicion: str = SUSPICION
    places: int  # that each nodule was set into; the mean of its logits judges it
    seed: int
    judges: tuple[Judge, ...]
    patients: int  # of the benign and malignant nodules
    all: Figures
    one_place_auc: float | None  # mean over the places: what a single look tells
    by_diameter: tuple[Figures, ...]
    by_run: tuple[Figures, ...]
    as_said: Reliability
    with_temperature: Reliability | None
    indeterminate: Indeterminate
    diameter_error_mm: float | None  # median; None: the networks say no diameter
    warnings: tuple[str, ...]  # what weakens these figures

    def to_json(self) -> str:
        """As it is written."""
        return self.model_dump_json(indent=2) + "\n"
