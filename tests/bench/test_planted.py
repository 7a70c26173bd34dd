"""A planted rule: the table names the methods that follow it, the filter the cases that rest on it.

The weights of a tiny CXR-LLaVA are set by hand. A patch that is white all over lights a channel in
the first block of its tower; the language model attends everywhere alike, and writes "There is a
nodule." where enough is lit, "No nodule." elsewhere. Attention inside the tower looks at places
chosen by chance and moves nothing.

Every image has one white square. In the planted cases the manifest says so; in the others its box
is of a place that the answer does not depend on.
"""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import workbench as wb
from tests.threads import one_thread  # noqa: F401 (a fixture)
from workbench.bench import Radiographs, benchmark_saliency
from workbench.commands.phantom import save

SIDE, PATCH, SQUARE, WIDTH = 128, 16, 32, 64
CASES, PLANTED = 10, 7
FAITHFUL = ("relevancy", "input_x_gradient", "grad_cam", "occlusion", "adaptive_occlusion")
PATHS = ("integrated_gradients", "smoothgrad")
#: Channels of the tower and of the language model.
GREY, PLUS, MINUS, LIT, PLACE = 0, 1, 2, 3, slice(8, 24)
SEEN, SUM, STEADY, WORDS = 0, 1, 2, 8
#: The white of a patch, as the model normalises it, above which the patch is lit.
WHITE = 0.93


def vision_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """One block that lights white patches; its attention reads places only, and writes nothing."""
    made = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for name in made:
        if "ln_" in name and name.endswith("weight"):
            made[name] += 1
    made["conv1.weight"][GREY] = PATCH**-2
    places, chance = made["positional_embedding"], torch.Generator().manual_seed(1)
    places[:, PLUS], places[:, MINUS] = 10, -10
    places[:, PLACE] = 0.2 * torch.randn(len(places), 16, generator=chance)
    block = "transformer.resblocks.0."
    look = 5 * torch.randn(2 * WIDTH, 16, generator=chance)
    made[block + "attn.in_proj_weight"][: 2 * WIDTH, PLACE] = look
    spread = (200 / WIDTH) ** 0.5  # of a token's channels: what the norms divide by
    made[block + "mlp.c_fc.weight"][0, GREY] = 30
    made[block + "mlp.c_fc.bias"][0] = -30 * WHITE / spread
    made[block + "mlp.c_proj.weight"][LIT, 0] = 1
    return made


def word_weights(shapes: dict[str, tuple[int, ...]], chains, last: int) -> dict[str, torch.Tensor]:
    """One layer that sums what is lit; then each word follows the one before it."""
    made = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for name in made:
        if "norm" in name:
            made[name] += 1
    made["mm_projector.weight"][SEEN, LIT] = made["mm_projector.weight"][STEADY, PLUS] = 1
    words = sorted({last, *(token for chain in chains for token in chain[:-1])})
    channel = {word: WORDS + at for at, word in enumerate(words)}
    embed, head = made["llama.embed_tokens.weight"], made["lm_head.weight"]
    embed[:, STEADY] = 0.01
    for word in words:
        embed[word, channel[word]] = 1
    made["llama.layers.0.self_attn.v_proj.weight"][0, SEEN] = 1
    made["llama.layers.0.self_attn.o_proj.weight"][SUM, 0] = 20
    for word, following in {pair for chain in chains for pair in pairwise(chain)}:
        head[following, channel[word]] = 400
    yes, no = (chain[0] for chain in chains)
    head[yes, SUM], head[no, channel[last]] = 10, 10
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The checkpoint, opened as any other."""
    folder, mini = tmp_path_factory.mktemp("planted") / "rule", wb.load_model("mini", device="cpu")
    shutil.copytree(mini.loaded.directory, folder, ignore=shutil.ignore_patterns("*card*", "sal*"))
    settings = json.loads((folder / "config.json").read_text())
    settings["clip_vision_cfg"] |= {"image_size": SIDE, "layers": 1, "width": WIDTH}
    settings["clip_vision_cfg"] |= {"head_width": 16}
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "intermediate_size": 8, "head_dim": 16}
    settings["llama"] |= sizes | {"num_attention_heads": 4, "num_key_value_heads": 4}
    settings["mm_projector_dim"] = WIDTH
    (folder / "config.json").write_text(json.dumps(settings))
    encode = mini.tokenizer.encode
    chains = [(*encode(text, add_bos=False), 2) for text in ("There is a nodule.", "No nodule.")]
    report = mini.report(wb.phantom(0, size=mini.image_size), max_new_tokens=1)
    with torch.device("meta"):
        empty = type(mini.network)(type(mini.network.config).from_pretrained(folder))
    shapes = {name: tuple(value.shape) for name, value in empty.state_dict().items()}
    tower = {n.partition(".")[2]: s for n, s in shapes.items() if n.startswith("vision_tower.")}
    rest = {name: shape for name, shape in shapes.items() if not name.startswith("vision_tower.")}
    made = {f"vision_tower.{name}": value for name, value in vision_weights(tower).items()}
    save_file(
        made | word_weights(rest, chains, report.prompt_ids[-1]), folder / "model.safetensors"
    )
    return wb.load_model(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory):
    """Images with a white square each; the boxes of the first `PLANTED` are where it is."""
    folder, chance = tmp_path_factory.mktemp("squares"), np.random.default_rng(3)
    save(wb.phantom(0, findings=["nodule"], size=SIDE), folder)
    row = wb.data.build("phantom", source=folder).to_frame().iloc[0]
    rows = []
    for at in range(CASES):
        white, other = chance.choice((SIDE // SQUARE) ** 2, 2, replace=False)
        grey = chance.normal(0.2, 0.01, (SIDE, SIDE))
        top, left = (SQUARE * int(place) for place in divmod(white, SIDE // SQUARE))
        grey[top : top + SQUARE, left : left + SQUARE] = 1
        Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(folder / f"{at}.png")
        said = divmod(int(white if at < PLANTED else other), SIDE // SQUARE)
        box = dict(zip("yx", (SQUARE * place for place in said), strict=True))
        box |= {"finding": "nodule", "width": SQUARE, "height": SQUARE}
        names = {"path": f"{at}.png", "image_id": f"{at}", "patient_id": f"{at}"}
        rows.append({**row, **names, "boxes": json.dumps([box]), "masks": None})
    pd.DataFrame(rows).to_parquet(folder / "m.parquet")
    return Radiographs(folder / "m.parquet")


@pytest.fixture(scope="module")
def found(model, radiographs, tmp_path_factory):
    """The table, and the scores of single maps."""
    kept = tmp_path_factory.mktemp("kept") / "scores.jsonl"
    table = benchmark_saliency(
        model, radiographs=radiographs, methods=(*FAITHFUL, *PATHS, "rollout", "attention"),
        slow_cases=CASES, randomised_cases=0, causal=True, kept=kept, progress=False,
    )  # fmt: skip
    results = [json.loads(line) for line in kept.read_text().splitlines()[1:]]
    scores = [score for one in results for score in one["result"]]
    return SimpleNamespace(table=table, scores=scores)


def test_every_report_states_the_square(found):
    assert (found.table.cases, found.table.missed, found.table.patients) == (CASES, 0, CASES)


def test_the_filter_keeps_exactly_the_planted_cases(found):
    causal = {score["seed"]: score["causal"] for score in found.scores}
    first = min(causal)
    assert causal == {first + at: at < PLANTED for at in range(CASES)}
    assert {row.causal.pointing.n for row in found.table.rows} == {PLANTED}


def test_methods_that_follow_the_rule_point_at_it_and_nowhere_else(found):
    rows = {row.method: row for row in found.table.methods}
    for name in (*FAITHFUL, *PATHS):
        assert rows[name].causal.pointing.value == 1, name
        assert rows[name].pointing.value == PLANTED / CASES, name
    assert rows["relevancy"].causal.f1.value > 0.8


def test_rollout_points_by_chance(found):
    row = next(row for row in found.table.methods if row.method == "rollout")
    by_chance = (SQUARE / SIDE) ** 2
    for measured in (row.pointing, row.causal.pointing):
        assert measured.low <= by_chance <= measured.high
        assert measured.value < 0.5
