"""What a model does, path by path, as arrays: run on a CPU and on the pretend accelerator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from accelerate.utils import send_to_device

import workbench as wb
from tests.accelerator import FIRST, SECOND, pretend_accelerator
from workbench.cases import phantom_case
from workbench.finetune.datasets import Images
from workbench.finetune.parts import prepare, trainable
from workbench.finetune.recipe import TuningRecipe, read_recipe
from workbench.finetune.turns import Turn
from workbench.finetune.writing_stages import base_of
from workbench.hallucination.ablations import augmented_images
from workbench.hallucination.mitigation import ContrastiveDecoding
from workbench.hallucination.polling import yes_odds
from workbench.model.placement import Placement, device_of
from workbench.saliency.checks import deletion
from workbench.saliency.methods import METHODS, methods_for
from workbench.saliency.randomisation import randomised
from workbench.saliency.scorer import Scorer, make_target

#: Options that make slow methods quick; what they compute stays.
QUICK = {
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"tolerance": 1e9},
    "integrated_gradients_patches": {"tolerance": 1e9},
    "adaptive_occlusion": {"budget": 12},
    "kernel_shap": {"samples": 8, "regions": (2, 2)},
}


class Subject:
    """A model, an image and a text about it."""

    def __init__(self, model: wb.ChestXrayModel) -> None:
        side = max(model.image_size, 64)
        self.model = model
        self.image, self.other = (
            wb.phantom(seed, findings=["pleural effusion"], side="left", size=side).image
            for seed in (7, 8)
        )
        self.text = model.report(self.image, max_new_tokens=6)
        self.trace = model.trace(self.image, self.text)


def _said(*made) -> Mapping[str, np.ndarray]:
    return {
        f"{n} {name}": np.array(getattr(one, name))
        for n, one in enumerate(made)
        for name in ("token_ids", "logprobs")
    }


def _encode(s: Subject) -> Mapping[str, np.ndarray]:
    return {"rows": s.model.encode(s.image).float().cpu().numpy()}


def _report(s: Subject) -> Mapping[str, np.ndarray]:
    s.model.forget_images()
    return _said(s.model.report(s.image, max_new_tokens=5))


def _batch(s: Subject) -> Mapping[str, np.ndarray]:
    """Several images, and several questions about one, of different lengths."""
    s.model.forget_images()
    texts = s.model.report_many([s.image, s.other], batch_size=2, max_new_tokens=3)
    answers = s.model.ask_many(s.image, ["Why?", "Is there a pneumothorax?"], max_new_tokens=3)
    return _said(*texts, *answers)


def _sampled(s: Subject) -> Mapping[str, np.ndarray]:
    options = {"temperature": 0.7, "top_p": 0.9, "top_k": 20}
    return _said(s.model.report(s.image, max_new_tokens=4, seed=3, **options))


def _dialogue(s: Subject) -> Mapping[str, np.ndarray]:
    chat = s.model.chat(s.image, max_new_tokens=3)
    made = chat.say("Why?"), chat.say("Is there an effusion?")
    stream = s.model.stream_report(s.image, max_new_tokens=3)
    list(stream)
    return _said(*made, stream.generation)


def _trace(s: Subject) -> Mapping[str, np.ndarray]:
    trace = s.model.trace(s.image, s.text)
    return {n: v for n, v in vars(trace).items() if isinstance(v, np.ndarray)}


def _map(name: str) -> Callable[[Subject], Mapping[str, np.ndarray]]:
    def path(s: Subject) -> Mapping[str, np.ndarray]:
        if name not in methods_for(s.model):
            return {}
        options = QUICK.get(name, {})
        return {name: wb.saliency.explain(s.trace, token=2, method=name, **options).values}

    return path


def _fill(s: Subject) -> Mapping[str, np.ndarray]:
    """Other baselines, a contrast, curves, and the check by random weights."""
    found = wb.saliency.explain(s.trace, token=2, method="integrated_gradients", baseline="black",
                                tolerance=1e9)  # fmt: skip
    target = make_target(s.trace, token=2)
    curve = deletion(Scorer(s.trace, target), found, steps=2)
    with randomised(s.model):
        changed = s.model.force(s.model.pixels(s.image), s.text.prompt_ids, s.text.token_ids)
    return {"black": found.values, "curve": curve.scores, "random": changed.cpu().numpy()}


def _ground(s: Subject) -> Mapping[str, np.ndarray]:
    found = wb.hallucination.ground(s.trace)
    return {"frame": found.to_frame().select_dtypes("number").to_numpy()}


def _detect(s: Subject) -> Mapping[str, np.ndarray]:
    """Polling under augmentation, and decoding against a blurred image."""
    pixels = s.model.pixels(s.image)
    changed = augmented_images(s.model, pixels[0].cpu().numpy()).values()
    odds = yes_odds(s.model, [pixels, *changed], "Is there an effusion?")
    made = ContrastiveDecoding().report(s.model, s.image, max_new_tokens=3)
    return {"odds": np.array(odds), **_said(made)}


def _inside(s: Subject) -> Mapping[str, np.ndarray]:
    """Logit lens, patch lens, ablation and patching."""
    lens = wb.attention.logit_lens(s.trace, ["Yes"])
    patches = wb.attention.patch_lens(s.trace, ["The heart is enlarged.", "No."])
    ablated = wb.attention.ablate(s.trace, heads=[(0, 1), (1, 0)])
    patched = wb.attention.patch(s.trace, s.other, layer=1)
    return {
        str(n): np.asarray(value)
        for n, one in enumerate((lens, patches, ablated, patched))
        for value in vars(one).values()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    }


def _learn(s: Subject) -> Mapping[str, np.ndarray]:
    """Two steps of LoRA; trains the model in place."""
    model, case = s.model, phantom_case(7_100_300)
    torch.manual_seed(0)
    prepare(model.network, TuningRecipe(language="lora", projector="full", rank=3, alpha=7))
    base = base_of(model)
    turns = [Turn(case.id, "report", None, "The heart is enlarged.")]
    recipe = read_recipe("stage3_lora").replace(training={"feature_cache": False, "keep": 0.5})
    rows = base.rows(base.examples(turns, [case]), Images([case], model.processor), recipe, Path())
    student, batch = base.student(recipe.training), rows.collate([(0, 0)])
    batch = send_to_device(batch, device_of(model.network.get_input_embeddings()))  # as Trainer
    optimiser = torch.optim.AdamW([p for _, p in trainable(student)], lr=1e-2)
    losses = []
    for _ in range(2):
        loss = student(**batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return {"losses": np.array(losses)} | {
        name: p.detach().cpu().numpy() for name, p in trainable(student)
    }


PATHS: Mapping[str, Callable[[Subject], Mapping[str, np.ndarray]]] = {
    "encode": _encode,
    "report": _report,
    "batch": _batch,
    "sampled": _sampled,
    "dialogue": _dialogue,
    "trace": _trace,
    **{name: _map(name) for name in METHODS},
    "baselines": _fill,
    "ground": _ground,
    "detect": _detect,
    "inside": _inside,
    "learn": _learn,
}


def split_map(network: torch.nn.Module) -> dict[str, torch.device]:
    """Return a `device_map` that halves the language model."""
    layers = network.get_decoder().layers
    half = {id(p) for layer in layers[len(layers) // 2 :] for p in layer.parameters()}
    late = half | {id(p) for p in network.get_decoder().norm.parameters()}
    late |= {id(p) for p in network.get_output_embeddings().parameters()}
    found: dict[str, torch.device] = {}

    def walk(name: str, module: torch.nn.Module) -> None:
        own = [*module.parameters()]
        places = {id(p) in late for p in own}
        if len(places) < 2:
            found[name] = SECOND if True in places else FIRST
            return
        for child, part in module.named_children():
            walk(f"{name}.{child}".lstrip("."), part)
        for child, _ in module.named_parameters(recurse=False):
            found[f"{name}.{child}".lstrip(".")] = FIRST

    walk("", network)
    return found


@contextmanager
def _placed(where: dict[str, torch.device], dtype: torch.dtype) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(pretend_accelerator())
        for module in ("workbench.model.load", "workbench.backends.vlm_reader"):
            stack.enter_context(patch(f"{module}.place", lambda *_, **__: Placement("auto", dtype)))
        stack.enter_context(
            patch.object(Placement, "device_map", {n: str(one) for n, one in where.items()})
        )
        yield


def on_one(directory: str | Path) -> AbstractContextManager[None]:
    """Let every model that is loaded within a block lie on one pretend device."""
    return _placed({"": FIRST}, torch.float32)


def split_over_two(
    directory: str | Path, dtype: torch.dtype = torch.float32
) -> AbstractContextManager[None]:
    """Let every model that is loaded within a block lie on two pretend devices."""
    network = wb.load_model(directory, device="cpu", dtype="float32").network
    return _placed(split_map(network), dtype)
