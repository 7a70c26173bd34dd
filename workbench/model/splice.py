"""Put image features into the place of the image id of a token sequence.

A prompt holds `IMAGE_TOKEN_ID` (-200) once per image. Splicing replaces each by N feature rows, so
L ids become T = L - 1 + N positions (one image). Attention masks and labels given per id are
stretched the same way.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int

from workbench.errors import InputError

#: Stands for one image in a sequence of token ids.
IMAGE_TOKEN_ID = -200

#: Label of positions that carry no loss.
IGNORE_LABEL = -100


def _source_index(input_ids: torch.Tensor, image_tokens: int) -> Int[torch.Tensor, "B T"]:
    """Return for each position of the spliced sequence the id it comes from."""
    if input_ids.ndim != 2:
        raise InputError(f"input_ids must have shape (B, L), got {tuple(input_ids.shape)}")
    is_image = input_ids == IMAGE_TOKEN_ID
    counts = is_image.sum(1)
    if (counts != counts[0]).any():
        raise InputError(
            "every row of a batch must hold the same number of images, got "
            f"{counts.tolist()}; run rows with other numbers on their own"
        )
    repeats = torch.where(is_image, image_tokens, 1)
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    rows = [torch.repeat_interleave(positions, row) for row in repeats]
    return torch.stack(rows)


def splice_embeddings(
    input_ids: torch.Tensor, embed: torch.nn.Module, image_features: torch.Tensor
) -> Float[torch.Tensor, "B T H"]:
    """Do what `CxrLlavaForConditionalGeneration.splice` promises, with an embedding H wide."""
    input_ids = input_ids.to(cast("torch.Tensor", embed.weight).device)
    features = _check_features(input_ids, embed, image_features)
    source = _source_index(input_ids, features.shape[1])
    ids = torch.gather(input_ids, 1, source)
    is_image = ids == IMAGE_TOKEN_ID
    embeds = embed(ids.masked_fill(is_image, 0))
    features = features.to(device=embeds.device, dtype=embeds.dtype)
    return embeds.masked_scatter(is_image.unsqueeze(-1), features)


def stretch(
    values: torch.Tensor | None,
    input_ids: Int[torch.Tensor, "B L"],
    image_tokens: int,
    image_value: int,
) -> torch.Tensor | None:
    """Stretch one value per id (a mask, labels) to one value per position of the spliced sequence.

    Images of `image_tokens` rows get `image_value`. What has another shape comes back as it is.
    """
    if values is None or values.shape != input_ids.shape:
        return values
    source = _source_index(input_ids, image_tokens)
    is_image = torch.gather(input_ids, 1, source) == IMAGE_TOKEN_ID
    return torch.gather(values, 1, source).masked_fill(is_image, image_value)


def _check_features(
    input_ids: torch.Tensor, embed: torch.nn.Module, features: torch.Tensor
) -> torch.Tensor:
    width = cast("torch.Tensor", embed.weight).shape[1]
    if features.ndim != 3 or features.shape[-1] != width:
        raise InputError(
            f"image_features must have shape (K, N, {width}), got {tuple(features.shape)}; "
            "make them with encode_image"
        )
    wanted = int((input_ids == IMAGE_TOKEN_ID).sum())
    if features.shape[0] == 1 and wanted > 1:
        return features.expand(wanted, -1, -1)
    if features.shape[0] != wanted:
        raise InputError(
            f"the ids hold {wanted} image places ({IMAGE_TOKEN_ID}) but {features.shape[0]} images "
            "came; give one image per place"
        )
    return features
