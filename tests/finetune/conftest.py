"""A finished run on a tiny checkpoint with random weights, and what tests start from."""

from __future__ import annotations

import json

import pytest
import torch

from tests.threads import one_thread  # noqa: F401 (a fixture)
from workbench.cases import phantom_case
from workbench.finetune.recipe import read_recipe
from workbench.finetune.running import run
from workbench.model.load import load_checkpoint

#: A run of two steps that takes seconds: the text is nonsense, everything around it is not.
TINY = {
    "data": {
        "phantoms": {"first_seed": 7_100_000, "count": 8, "finding": "fracture", "unlabelled": 2},
        "validation": 0.25,
    },
    "training": {"epochs": 2, "batch_size": 4, "micro_batch": 2, "save_every": 1},
    "evaluation": {"times": 1, "cases": 2, "forgetting": 0, "explained": 0, "new_tokens": 4},
}


IDS = torch.tensor([[1, 5, 9, -200, 7, 8, 3]])


def logits(network) -> torch.Tensor:
    """What a network says of one random image and a few ids."""
    side = network.config.vision.image_size
    pixels = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return network(input_ids=IDS, pixel_values=pixels).logits


def tiny_recipe(base: str, **changes):
    """Return the shipped LoRA recipe cut down to seconds."""
    recipe = read_recipe("stage3_lora").replace(name="tiny", base=base, **TINY)
    return recipe.replace(**changes) if changes else recipe


@pytest.fixture(scope="session")
def tiny_run(tiny, tmp_path_factory):
    """A finished stage-3 run."""
    torch.set_num_threads(1)
    return run(tiny_recipe(tiny), out=tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture
def loaded(tiny):
    """The tiny checkpoint in float32."""
    return load_checkpoint(tiny, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def cases():
    """Four drawn cases, every second one with a fracture."""
    return [
        phantom_case(7_100_100 + at, add="fracture" if at % 2 else None, known="fracture")
        for at in range(4)
    ]


@pytest.fixture
def manifest(tmp_path):
    """A manifest of six small films of four patients, with reports and gaps."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    import workbench as wb

    rows = []
    for at, (patient, finding, text) in enumerate(
        [
            ("a", "pleural effusion", "Small left pleural effusion, unchanged from prior."),
            ("a", "pneumothorax", "Right pneumothorax."),
            ("b", "", ""),
            ("c", "nodule", ""),
            ("d", "pleural effusion", "There is a pleural effusion. No pneumothorax."),
            ("d", "", "The lungs are clear."),
        ]
    ):
        grey = np.random.default_rng(at).integers(0, 255, (80, 70), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / f"film{at}.png")
        rows.append({"path": f"film{at}.png", "patient_id": patient, "labels": finding,
                     "report_findings": text})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "films.csv", index=False)
    made = wb.data.build("csv", source=tmp_path / "films.csv", provenance="report-mined",
                         licence="made for this test", hash_files=False)  # fmt: skip
    frame = made.to_frame()
    frame.loc[0, "boxes"] = json.dumps(
        [{"finding": "pleural effusion", "x": 10, "y": 40, "width": 20, "height": 30}]
    )
    return made.with_frame(frame)
