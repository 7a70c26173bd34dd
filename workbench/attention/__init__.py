"""Where a model looked while it wrote: attention read from a `Trace`, in several honest ways.

    wb.attention.to_image(trace, "left pleural effusion")    where the words looked
    wb.attention.by_layer(trace, "effusion")                 the same, layer by layer
    wb.attention.heads(trace, "effusion")                    which heads look at the image, how
    wb.attention.sources(trace)                              image, prompt, or the model's own words
    wb.attention.rollout(trace, "effusion")                  down through the vision tower
    wb.attention.flow(trace, "effusion")                     the same by maximum flow
    wb.attention.logit_lens(trace, ["effusion"])             what the image positions already say
    wb.attention.patch_lens(trace)                           words in sentences that they are like
    wb.attention.without_sinks(trace, "effusion")            without tokens that all words look at
    wb.attention.ablate(trace, heads=[(3, 1)])               what is said if a head is blind
    wb.attention.patch(trace, other, layer=2)                what is said with states of another

Attention weights are part of the computation and not an explanation of it: they do not tell whether
a word would change if a place were covered (Jain and Wallace, NAACL 2019, arXiv 1902.10186;
Wiegreffe and Pinter, EMNLP 2019, arXiv 1908.04626).
"""

from workbench.attention.interventions import Intervention, ablate, patch
from workbench.attention.lens import LogitLens, logit_lens
from workbench.attention.patch_lens import PatchLens, patch_lens
from workbench.attention.shares import HeadScores, Sources, heads, sources
from workbench.attention.vision_rollout import flow, rollout, rollout_matrix
from workbench.attention.word_maps import AttentionStack, by_head, by_layer, to_image, without_sinks

__all__ = [
    "AttentionStack",
    "HeadScores",
    "Intervention",
    "LogitLens",
    "PatchLens",
    "Sources",
    "ablate",
    "by_head",
    "by_layer",
    "flow",
    "heads",
    "logit_lens",
    "patch",
    "patch_lens",
    "rollout",
    "rollout_matrix",
    "sources",
    "to_image",
    "without_sinks",
]
