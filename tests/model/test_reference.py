"""The model reproduces the recorded arrays, in float32 exactly and in bfloat16 loosely."""

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.model.load import load_checkpoint
from workbench.model.processor import ImageProcessor
from workbench.radiograph import InputContract, Radiograph

PILLOW = int(Image.__version__.partition(".")[0])
TWO_GREY_LEVELS = 0.0206


@pytest.fixture
def arrays(case_folder):
    with np.load(case_folder / "arrays.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture
def loaded(checkpoint):
    return load_checkpoint(checkpoint, device="cpu")


def read_grey(path):
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L"), np.float32) / np.float32(255)
    return Radiograph(grey, InputContract(path.name))


def relative_rms(ours, theirs):
    ours = ours.float().numpy()
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def test_pixel_values(loaded, checkpoint, cases, arrays):
    for case in cases.values():
        path = checkpoint.parents[1] / "images" / case["image"]
        ours = loaded.processor(read_grey(path), "crop")[None].numpy()
        assert np.abs(ours - arrays["pixel_values"]).max() <= 1e-5


@torch.inference_mode()
def test_vision_states_and_projection(loaded, arrays):
    pixels = torch.from_numpy(arrays["pixel_values"])
    output = loaded.model.vision_tower(pixels, output_hidden_states=True)
    ours = {
        "vision_ln_pre": output.hidden_states[0][0],
        "vision_tokens": output.tokens[0],
        "pooled": output.pooled[0],
        "projected": loaded.model.encode_image(pixels)[0],
    }
    for index, state in enumerate(output.hidden_states[1:]):
        ours[f"vision_block_{index}"] = state[0]
    recorded = {name for name in arrays if "__" not in name} - {"pixel_values"}
    assert set(ours) == recorded
    for name in recorded:
        assert np.abs(ours[name].numpy() - arrays[name]).max() <= 1e-4, name


@torch.inference_mode()
def test_language_model_at_every_position(loaded, cases, arrays):
    pixels = torch.from_numpy(arrays["pixel_values"])
    for name, case in cases.items():
        ids = torch.tensor([case["input_ids"]])
        output = loaded.model(ids, pixel_values=pixels, output_hidden_states=True)
        logits = output.logits[0].numpy()
        assert len(logits) == case["expanded_len"]
        within = {"atol": 1e-3, "rtol": 1e-3}
        np.testing.assert_allclose(logits[-1], arrays[f"{name}__logits_last"], **within)
        top_ids = arrays[f"{name}__first8_top20_ids"]
        chosen = np.take_along_axis(logits[:8], top_ids.astype(int), axis=1)
        np.testing.assert_allclose(chosen, arrays[f"{name}__first8_top20_values"], **within)
        largest = -np.sort(-logits[:8], axis=1)[:, :20]
        np.testing.assert_allclose(largest, arrays[f"{name}__first8_top20_values"], **within)
        np.testing.assert_array_equal(logits.argmax(-1), arrays[f"{name}__argmax_all"])
        hidden = torch.stack([state[0, -1] for state in output.hidden_states]).numpy()
        np.testing.assert_allclose(hidden, arrays[f"{name}__hidden_last"], **within)


@torch.inference_mode()
def test_first_step_sampling_distribution(loaded, cases, arrays):
    pixels = torch.from_numpy(arrays["pixel_values"])
    ids = torch.tensor([cases["report"]["input_ids"]])
    logits = loaded.model(ids, pixel_values=pixels, logits_to_keep=1).logits[0, 0].double().numpy()
    names = [name for name in arrays if "sample_probs" in name]
    assert names
    for name in names:
        temperature, top_p = (float(part[1:]) for part in name.split("__")[2].split("_"))
        scaled = logits / temperature
        order = np.argsort(-scaled)[:50]
        kept = np.exp(scaled[order] - scaled[order[0]])
        kept /= kept.sum()
        count = int((np.cumsum(kept) - kept < top_p).sum())
        ours = np.zeros_like(logits)
        ours[order[:count]] = kept[:count] / kept[:count].sum()
        assert np.abs(ours - arrays[name]).max() <= 1e-3, name


@torch.inference_mode()
def test_bfloat16_is_near_the_recorded_bfloat16_run(checkpoint, cases, arrays):
    model = load_checkpoint(checkpoint, device="cpu", dtype="bfloat16").model
    pixels = torch.from_numpy(arrays["pixel_values"])
    output = model.vision_tower(pixels)
    assert relative_rms(output.tokens[0], arrays["bf16__vision_tokens"]) <= 0.03
    assert relative_rms(output.pooled[0], arrays["bf16__pooled"]) <= 0.05
    assert relative_rms(model.encode_image(pixels)[0], arrays["bf16__projected"]) <= 0.03
    for name, case in cases.items():
        ids = torch.tensor([case["input_ids"]])
        ours = model(ids, pixel_values=pixels, logits_to_keep=1).logits[0, 0]
        theirs = arrays[f"bf16__{name}__logits_last"]
        assert relative_rms(ours, theirs) <= 0.30
        assert np.corrcoef(ours.float().numpy(), theirs)[0, 1] >= 0.95


def test_images_that_are_only_preprocessed(checkpoint):
    golden = checkpoint.parents[1] / "golden" / checkpoint.name
    processor = load_checkpoint(checkpoint, device="cpu").processor
    assert isinstance(processor, ImageProcessor)
    with np.load(golden / "preprocess_only.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    for key, theirs in arrays.items():
        file, _, variant = key.partition("@")
        ours = processor(read_grey(checkpoint.parents[1] / "images" / file), "crop")[None].numpy()
        apart = np.abs(ours - theirs)
        if variant == f"pillow{PILLOW}" or f"{file}@pillow{PILLOW}" not in arrays:
            assert apart.max() <= 1e-5, key
        else:
            assert apart.max() <= TWO_GREY_LEVELS, key
            assert (apart > 1e-5).mean() <= 0.05, key
