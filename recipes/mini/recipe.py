"""The recipe of `mini`: every number that decides its weights, one sentence per field."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from workbench.errors import OptionError
from workbench.findings import PHANTOM_FINDINGS
from workbench.settings import FIRST_HELD_OUT_SEED

#: In the order they run; "sides" and "ct" train the encoder again, the stages after them the rest.
ALL_STAGES = (
    "phantoms",
    "encoder",
    "language",
    "align",
    "instruct",
    "polish",
    "sides",
    "polish_again",
    "ct",
    "polish_ct",
    "export",
)


@dataclass(frozen=True)
class MiniRecipe:
    """Settings of one training run of `mini`.

    Attributes:
        seed: decides initial weights, order, augmentation and wording.
        domain: phantom domain that all stages but the last two are trained on; the external domain
            is never seen.
        image_size: side of the model's square input, pixels.
        patch_size: side of a patch, pixels.
        vision_width: length of a vision token.
        vision_layers: blocks of the vision tower.
        vision_head_width: width of a vision attention head.
        hidden_size: length of a language token.
        intermediate_size: hidden width of the language MLP.
        llama_layers: blocks of the language model.
        llama_heads: attention heads of the language model.
        context: longest sequence of the language model, image tokens included.
        vocabulary: word pieces of the tokenizer.
        tokenizer_phantoms: phantoms whose texts the word pieces are learned from.
        train_first_seed: first phantom seed of the training set.
        train_count: distinct training phantoms.
        val_first_seed: first phantom seed of the validation set.
        val_count: validation phantoms.
        encoder_images: images that stage 1 sees, repeats included.
        encoder_batch: images per step of stage 1.
        encoder_lr: peak learning rate of AdamW in stage 1 (embeddings, norms, biases, heads).
        encoder_muon_lr: peak learning rate of Muon on the matrices of the blocks in stage 1.
        balance_after: step of stage 1 from which covered patches of small findings weigh more.
        language_texts: texts that the language model reads with symbolic findings before stage 2.
        align_images: images that stage 2 sees (projector only).
        instruct_images: images that stage 3 sees, repeats included.
        polish_images: images that the end of stage 3 sees, with content words weighed more.
        sides_first_seed: first phantom seed of the set that the last two stages see.
        sides_count: distinct phantoms of that set.
        sides_images: images that the encoder sees while it learns findings and sides.
        sides_lr: peak learning rate of AdamW in that stage.
        sides_muon_lr: peak learning rate of Muon in that stage.
        polish_again_images: images that projector and language model see behind that encoder.
        ct_first_seed: first seed of the CT phantoms that the encoder and what is behind it see
            last, beside drawn ones; one in four is an AP radiograph.
        ct_count: distinct CT phantoms.
        ct_drawn: drawn phantoms beside them, from the same seed up.
        ct_images: images that the encoder sees in that stage, drawn or projected alike.
        ct_lr: peak learning rate of AdamW in that stage.
        ct_muon_lr: peak learning rate of Muon in that stage.
        polish_ct_images: images that projector and language model see behind that encoder.
        content_weight: weight of content words (side, zone, severity, yes, no) in that end.
        instruct_batch: images per step of stage 2 and 3.
        language_lr: peak learning rate of the language model.
        false_premise: whether stage 3 has turns that ask about a finding that is not there.
        held_out: finding that no text of any stage names, so that it can be taught later; None for
            none. The encoder learns it all the same.
        threads: CPU threads.
    """

    seed: int = 7
    domain: str = "internal"
    image_size: int = 256
    patch_size: int = 16
    vision_width: int = 192
    vision_layers: int = 6
    vision_head_width: int = 48
    hidden_size: int = 160
    intermediate_size: int = 432
    llama_layers: int = 4
    llama_heads: int = 5
    context: int = 1024
    vocabulary: int = 900
    tokenizer_phantoms: int = 4_000
    train_first_seed: int = 0
    train_count: int = 24_000
    val_first_seed: int = 5_000_000
    val_count: int = 600
    encoder_images: int = 30_000
    encoder_batch: int = 24
    encoder_lr: float = 1.0e-3
    encoder_muon_lr: float = 5.0e-3
    balance_after: int = 500
    language_texts: int = 4_800
    align_images: int = 960
    instruct_images: int = 10_400
    polish_images: int = 5_600
    sides_first_seed: int = 24_000
    sides_count: int = 16_000
    sides_images: int = 19_200
    sides_lr: float = 0.5e-3
    sides_muon_lr: float = 2.5e-3
    polish_again_images: int = 8_000
    ct_first_seed: int = 80_000
    ct_count: int = 6_000
    ct_drawn: int = 4_000
    ct_images: int = 28_800
    ct_lr: float = 0.5e-3
    ct_muon_lr: float = 2.5e-3
    polish_ct_images: int = 8_000
    content_weight: float = 4.0
    instruct_batch: int = 16
    language_lr: float = 1.5e-3
    false_premise: bool = True
    held_out: str | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        trained = max(
            self.train_first_seed + self.train_count,
            self.sides_first_seed + self.sides_count,
            self.ct_first_seed + self.ct_count,
        )
        last = max(trained, self.val_first_seed + self.val_count)
        if last > FIRST_HELD_OUT_SEED:
            raise OptionError(
                f"training and validation seeds must stay below {FIRST_HELD_OUT_SEED:,} "
                f"(reserved for evaluation); this recipe goes up to {last - 1:,}"
            )
        if trained > self.val_first_seed:
            raise OptionError("training seeds must end before the validation seeds begin")
        if self.held_out is not None and self.held_out not in PHANTOM_FINDINGS:
            raise OptionError(
                f"held_out must be one of {', '.join(PHANTOM_FINDINGS)}, got {self.held_out!r}"
            )

    def to_dict(self) -> dict:
        """Return the fields as plain values."""
        return asdict(self)

    def smoke(self) -> MiniRecipe:
        """Return the same recipe cut down to about a minute, to see every stage run."""
        return replace(
            self,
            vision_width=48,
            vision_layers=2,
            hidden_size=32,
            intermediate_size=64,
            llama_layers=2,
            llama_heads=2,
            train_count=64,
            val_count=16,
            encoder_images=64,
            encoder_batch=16,
            language_texts=64,
            align_images=32,
            instruct_images=32,
            polish_images=16,
            sides_count=32,
            sides_images=32,
            polish_again_images=16,
            ct_count=16,
            ct_drawn=16,
            ct_images=32,
            polish_ct_images=16,
            instruct_batch=8,
            image_size=128,
        )
