"""Does what a vision tower learned on phantoms show in real radiographs?

    python benchmarks/transfer.py radiographs/manifest.csv --model mini --json transfer.json

A linear probe (ridge, its strength chosen on the patients that it is fitted on) reads each finding
from the mean, maximum and spread of the tower's tokens. Beside it stand the same probe on 24 x 24
grey values and on the same tower with random matrices. Five folds of patients; every radiograph is
scored by a probe that has seen no other of its patient. Patients are resampled for intervals.

A manifest is a CSV with the columns file (relative to it), patient_id and labels, "|"-separated;
what is not named counts as absent. Findings with fewer than `--least` radiographs are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import workbench as wb
from workbench.evaluation.intervals import area, estimate, grouped_weights
from workbench.saliency.randomisation import randomised

GREY = "24 x 24 grey values"
FOLDS, STRENGTHS = 5, np.logspace(1, 6, 11)


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--model", nargs="+", default=["mini"], help="models to compare")
    parser.add_argument("--least", type=int, default=35)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    radiographs = pd.concat([read(path) for path in options.manifests], ignore_index=True)
    truth = radiographs.labels.str.get_dummies("|").drop(columns="No Finding", errors="ignore")
    truth = truth.loc[:, truth.sum() >= options.least].astype(bool)
    seen = {GREY: np.stack([grey(path) for path in radiographs.file])}
    for name in options.model:
        model = wb.load_model(name, device="cpu", dtype="float32")
        seen[name] = read_tokens(model, radiographs.file)
        with randomised(model, ("vision",)):
            seen[f"{name}, random weights"] = read_tokens(model, radiographs.file)
    table = compare(seen, truth, radiographs.patient_id.astype(str))
    print(
        f"{len(radiographs)} radiographs, {radiographs.patient_id.nunique()} patients; AUROC (95 %)"
    )
    print(pd.DataFrame(table).T.to_string())
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


def read(manifest: Path) -> pd.DataFrame:
    """Return a manifest with absolute paths."""
    radiographs = pd.read_csv(manifest)
    return radiographs.assign(file=[manifest.parent / file for file in radiographs.file])


def grey(path: Path, side: int = 24) -> np.ndarray:
    """Return the grey values of a radiograph on a coarse grid, (side * side,)."""
    image = Image.open(path).convert("L").resize((side, side), Image.Resampling.BOX)
    return np.asarray(image, np.float64).ravel()


@torch.inference_mode()
def read_tokens(model: wb.ChestXrayModel, files: pd.Series) -> np.ndarray:
    """Return mean, maximum and spread of the tower's tokens of each radiograph, (n, 3 W)."""
    found = []
    for file in files:
        tokens = model.vision(model.pixels(file)).tokens[0].double()
        found.append(torch.cat([tokens.mean(0), tokens.amax(0), tokens.std(0)]).numpy())
    return np.stack(found)


def scores(features: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return how much each radiograph speaks for each finding, by probes that never saw it."""
    found = np.zeros(truth.shape)
    for fit, rest in GroupKFold(FOLDS, shuffle=True, random_state=0).split(
        features, groups=patients
    ):
        probe = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS, alpha_per_target=True))
        found[rest] = probe.fit(features[fit], truth[fit].astype(float)).predict(features[rest])
    return found


def compare(seen: dict, truth: pd.DataFrame, patients: pd.Series) -> dict:
    """Return the area of each finding, their mean, and how far that is above grey values."""
    weights = grouped_weights(patients.tolist(), np.random.default_rng(0))
    table, reference = {}, None
    for name, features in seen.items():
        said = scores(features, truth.to_numpy(), patients.to_numpy())
        areas = [area(truth[key].to_numpy(), said[:, at], weights) for at, key in enumerate(truth)]
        means = [np.mean([one[at] for one in areas], axis=0) for at in (0, 1)]
        reference = reference or means
        gain = [mean - other for mean, other in zip(means, reference, strict=True)]
        table[name] = {
            "mean": str(estimate(*means, len(truth))),
            "above grey": str(estimate(*gain, len(truth))),
        } | {key: round(one[0], 3) for key, one in zip(truth, areas, strict=True)}
    return table


if __name__ == "__main__":
    main()
