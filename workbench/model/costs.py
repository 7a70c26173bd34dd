"""What each task holds and computes, counted on the shapes of a model; nothing is loaded.

Bytes beyond the weights, by part; b are the bytes of a number:

    cache      keys and values: of the image, kept for later questions, and of every row
    rows       softmax rows in float32: those of a trace, and of relevancy the mean of a layer's
    graph      what a backward pass needs, see `text_graph`; the vision tower keeps b (6 W + J) of
               a token and layer. Maps of all but small models checkpoint both
    work       the largest layer while it computes, and logits in float32
    copies     weights of small and middle-sized models in another order (`model.packed`)
    learning   weights that learn in float32, their gradients, and two moments of AdamW

W is the width of the tower, J that of its MLP. Operations are those of products of matrices, two
for each multiplication with its addition; those of attention stand apart, since processors are
slower at them. Bytes moved are weights read for a token, and what is computed number by number:
of a token and layer of the language model (32 b + 56) H for rotations, sums and norms (in float32)
and 8 b I for the MLP, of the tower b (20 W + 4 J).
Of other models than CXR-LLaVA the tower is a rough count: its tokens are taken as those that the
language model sees.

Sources for the accounting: Rajbhandari et al., ZeRO, SC 2020, arXiv 1910.02054, section 3;
Korthikanti et al., Reducing Activation Recomputation, MLSys 2023, arXiv 2205.05198.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedConfig

from workbench.errors import check_whole
from workbench.model.packed import MOST, SMALL
from workbench.model.placement import SMALL as FEW
from workbench.model.sizes import BYTES, Shape, cache_numbers

PARTS = ("cache", "rows", "graph", "work", "copies", "learning")
#: Bytes of the process itself with its libraries: on a CPU, and of the context of a GPU.
RUNTIME, CONTEXT = 0.45e9, 0.75e9
#: Bytes beside each parameter that learns: its gradient, and two moments of AdamW in float32.
GRADIENT, MOMENTS = 4, 8
LEARNING = GRADIENT + MOMENTS
#: Bytes up to which what was computed of images is kept for later questions; one is always kept.
PREFIX_BYTES = 1 << 30
#: Bytes of the rows of a tower up to which a trace keeps every head.
AUTO_BYTES = 256 << 20
#: Images read besides its own when a text is grounded, and rank of LoRA.
ABLATIONS, RANK = 6, 16
#: Map -> forward passes (of occlusion for each image token), gradients, and gradients that are held
#: together. Integrated gradients take these at least, smooth regions more. The methods, of a higher
#: level, state the same as defaults; a test compares.
MAPS = {
    "attention": (0, 0, 1),
    "attention_without_sinks": (0, 0, 1),
    "rollout": (0, 0, 1),
    "relevancy": (0, 1, 1),
    "input_x_gradient": (0, 1, 1),
    "smoothgrad": (0, 24, 8),
    "integrated_gradients": (9, 32, 4),
    "integrated_gradients_patches": (9, 32, 4),
    "grad_cam": (0, 1, 1),
    "token_activation": (1, 0, 1),
    "occlusion": (4, 0, 1),
    "adaptive_occlusion": (200, 0, 1),
    "kernel_shap": (258, 0, 1),
}
#: Training is that of `finetune.STRATEGIES` of the same name.
TASKS = ("report", "batch", "trace", "grounding", *MAPS, "train lora", "train projector")
#: What a backward pass through frozen weights spends beside its forward pass.
_BACK = np.array([1.0, 2.5, 1.5])

#: Operations in layers and in attention, and bytes moved; bytes held beyond the weights by part.
Cost = tuple[np.ndarray, dict[str, float]]


@dataclass(frozen=True)
class Asked:
    """What a task is asked for.

    Attributes:
        batch: images whose reports are written together.
        text: tokens of the prompt beside the image.
        new: tokens of a report; of a trace and a map those of its text.
        heads: as for a trace, of both towers.
        several: changed images that one pass of a map reads.
        checkpointing: of training.
    """

    batch: int = 8
    text: int = 66
    new: int = 128
    heads: str = "auto"
    several: int = 16
    checkpointing: bool = False

    @classmethod
    def of(cls, batch_size: int, new_tokens: int) -> Asked:
        """Return what a user asks; raise `OptionError` for no image or no token."""
        check_whole(1, batch_size=batch_size, new_tokens=new_tokens)
        return cls(batch=batch_size, new=new_tokens)


def keeps_each(heads: str, count: int, mean: float) -> bool:
    """Tell whether a trace keeps all of `count` heads, whose mean takes so many bytes."""
    return heads == "each" or (heads == "auto" and count * mean <= AUTO_BYTES)


def text_graph(
    text: PreTrainedConfig, number: float, *, lora: float = 0.0, checkpointing: bool = False
) -> float:
    """Return the bytes that a language model keeps of a token for a backward pass.

    Each layer keeps b (2 H + K + 3 I) + 8 H: queries, keys, values and what attention makes of
    them, the MLP's three products, and what enters the norms in float32. Where LoRA learns, what
    enters its layers is kept too, in `lora` bytes a number: 2 H + I more in float32; in 16 bits
    each has a copy of its own, 6 H + I. With checkpointing a layer keeps b H, and one is at work.
    H is the width, I that of the MLP, K the numbers of keys and values.
    """
    width, inner, layers = text.hidden_size, text.intermediate_size, text.num_hidden_layers
    own = 2 * width + cache_numbers(text) / layers + 3 * inner
    entering = (2 if number == 4 else 6) * width + inner
    layer = number * own + 8 * width + lora * entering
    return layers * number * width + layer if checkpointing else layers * layer


@dataclass(frozen=True)
class Counts:
    """Counts the tasks of a model whose weights are of a kind, one of `BYTES`.

    `number` is bytes of a number that is computed.
    """

    shape: Shape
    asked: Asked
    kind: str = "float32"
    number: float = 4.0
    cpu: bool = True

    @property
    def weights(self) -> float:
        """Bytes of the weights and of the process."""
        return self.shape.sizes.bytes_as(self.kind) + (RUNTIME if self.cpu else CONTEXT)

    @property
    def before(self) -> int:
        """Positions up to the end of the image, with half of the prompt."""
        return self.shape.image_tokens + self.asked.text // 2

    @property
    def length(self) -> int:
        """Positions of a prompt with its report."""
        return self.shape.image_tokens + self.asked.text + self.asked.new

    def of(self, task: str) -> Cost:
        """Count a task of `TASKS`."""
        if task in MAPS:
            return self._map(task)
        kind, _, strategy = task.partition(" ")
        return self._train(strategy) if strategy else getattr(self, f"_{kind}")()

    def cached(self, positions: float) -> float:
        """Return the bytes of keys and values of so many positions."""
        return positions * self.shape.cache * self.number

    def learning(self, strategy: str) -> int:
        """Return how many parameters learn by LoRA beside the projector, or by the latter alone."""
        return self.shape.sizes.mm_projector + RANK * self.shape.lora * (strategy == "lora")

    def graph(self, *, lora: float = 0.0, saved: bool) -> float:
        """Return what the language model keeps of a prompt with its report; see `text_graph`."""
        text = self.shape.text
        return self.length * text_graph(text, self.number, lora=lora, checkpointing=saved)

    def kept_rows(self) -> tuple[float, ...]:
        """Return the bytes that a trace keeps of the language model's rows and of the tower's."""
        tokens, _, _, layers, heads = self.shape.seen
        text = 4.0 * self.shape.layers * self.asked.new * self.length
        seen = 4.0 * layers * tokens**2 * self.shape.patchwise
        return tuple(
            mean * count if keeps_each(self.asked.heads, count, mean) else mean
            for mean, count in ((text, self.shape.heads), (seen, heads))
        )

    def _report(self) -> Cost:
        return self._batch(1)

    def _batch(self, count: int = 0) -> Cost:
        """Count reports that are written together; a GPU sees their images together too."""
        count, new = count or self.asked.batch, self.asked.new
        text, inside = self.shape.text, self.shape.sizes.quantisable
        head = text.hidden_size * text.vocab_size
        read = BYTES[self.kind] * inside + self.number * head
        read += count * self.cached(self.length - new / 2)
        packs = self.cpu and self.kind == "float32" and SMALL < 4 * inside <= MOST
        copies = 4.0 * (inside + head) * packs
        steps = np.array([2 * count * new * (inside + head), 0.0, new * read + 3 * copies])
        begun = self._see() + self._read(self.length - new)
        kept = (self.cpu or count == 1) * self.before + count * self.length
        work = self._work(self.before * (1 if self.cpu else count))
        return count * begun + steps, {"cache": self.cached(kept), "copies": copies, "work": work}

    def _trace(self) -> Cost:
        """Count the trace of a report; what was computed of the image is there."""
        tokens, _, _, layers, heads = self.shape.seen
        kept, behind = self.kept_rows(), self.length - self.before
        one = 4.0 * self.shape.heads * self.asked.new * self.length
        seen = 4.0 * heads * tokens**2 * bool(kept[1])
        spent = self._read(behind, self.before) + self._logits(self.asked.new)
        spent += self._see() * bool(kept[1])
        # scores, mask, softmax and mean of every head; what is kept is stacked, folded, filled up
        spent[2] += 12 * (self.shape.layers * one + layers * seen) + 6 * sum(kept)
        # kept, and the larger once more when it is stacked; of a layer, scores and softmax
        held = {"rows": sum(kept) + max(kept), "work": 2 * max(one, seen) + self._work(behind)}
        return spent, held | {"cache": self.cached(self.before + self.length)}

    def _grounding(self) -> Cost:
        """Count grounding: the images with something taken away, then the text with each."""
        rows, behind = ABLATIONS + 1, self.length - self.before
        spent = ABLATIONS * (self._see() + self._read(self.before))
        spent += rows * (self._read(behind, self.before) + self._logits(self.asked.new))
        # logits of one row, and three times in float64
        logits = self.asked.new * self.shape.text.vocab_size * (self.number + 28)
        kept = min(rows * self.cached(self.before), max(PREFIX_BYTES, self.cached(self.before)))
        held = {"cache": self.cached(rows * self.length) + kept}
        held["work"] = max(self._work(self.before), rows * self._work(behind), logits)
        return spent, held | {"rows": sum(self.kept_rows())}

    def _train(self, strategy: str) -> Cost:
        """Count a step of training by "lora" or "projector", one image at a time."""
        asked, learning = self.asked, self.learning(strategy)
        spent = self._read(self.length) + self._logits(asked.new)
        # what LoRA adds is cast, scaled and summed in float32: 6 bytes of an input, 28 of an output
        spent[2] += 17.0 * self.length * self.shape.lora * (strategy == "lora")
        states = LEARNING * learning + 4.0 * (learning - self.shape.sizes.mm_projector)
        spent = (1 + _BACK + asked.checkpointing) * spent + self._see()
        spent[2] += 2 * states
        # a GPU trains 16 bits under autocast, which casts what enters LoRA's layers to them
        lora = (strategy == "lora") * (4.0 if self.cpu else self.number)
        held = {"graph": self.graph(lora=lora, saved=asked.checkpointing), "learning": states}
        return spent, held | {"work": self._work(self.length, asked.new)}

    def _map(self, method: str) -> Cost:
        """Count a map of a whole text by one of `MAPS`, with the trace that it starts from."""
        passes, gradients, together = MAPS[method]
        passes *= self.shape.image_tokens if method == "occlusion" else 1
        tam = method == "token_activation"  # reads out every position, 256 together
        held = {"rows": sum(self.kept_rows()), "cache": self.cached(self.before)}
        spent = passes * (self._see() + self._read(self.length))
        spent += passes * self._logits(self.length if tam else self.asked.new)
        one = self._work(self.length, 256 if tam else self.asked.new)
        held["work"] = one * max(min(self.asked.several, passes), together * bool(gradients))
        if gradients:
            saved = self.shape.sizes.total > FEW
            read = self._read(self.length) + self._logits(self.asked.new)
            back = 1 + _BACK + saved
            # Grad-CAM stops at the last block, but what the tower kept is there
            seen = self._see() * (1 if method == "grad_cam" else back)
            spent += gradients * (back * read + seen)
            held["graph"] = together * (self.graph(saved=saved) + self._seen_graph(saved=saved))
        return self._with_rows(spent, held) if method == "relevancy" else (spent, held)

    def _seen_graph(self, *, saved: bool) -> float:
        """Return what the vision tower keeps of an image for a backward pass."""
        tokens, width, inner, layers, _ = self.shape.seen
        layer = self.number * tokens * (6 * width + inner)
        return layers * self.number * tokens * width + layer if saved else layers * layer

    def _with_rows(self, spent: np.ndarray, held: dict[str, float]) -> Cost:
        """Add to a gradient the rows of all layers, of one key head at a time, and their means."""
        shape, text = self.shape, self.shape.text
        tokens, width, _, layers, heads = shape.seen
        squares = shape.layers * self.length**2, layers * tokens**2
        # five products; rows, their gradients and what becomes of both are read or written 20 times
        products = 10.0 * (squares[0] * text.hidden_size + squares[1] * width)
        moved = 80.0 * (squares[0] * shape.heads + squares[1] * heads)
        spent = spent + np.array([0.0, products, moved])
        group = shape.heads / max(1, getattr(text, "num_key_value_heads", 0) or shape.heads)
        one = 5 * 4.0 * max(group * self.length**2, tokens**2)
        held |= {"rows": held["rows"] + 4.0 * sum(squares), "work": held["work"] + one}
        return spent, held

    def _see(self) -> np.ndarray:
        """Count one image through the vision tower and the projector."""
        tokens, width, inner, layers, _ = self.shape.seen
        products = 2 * tokens * (self.shape.sizes.vision_tower + self.shape.sizes.mm_projector)
        moved = self.number * tokens * layers * (20 * width + 4 * inner)
        return np.array([products, 4 * layers * tokens**2 * width, moved])

    def _read(self, tokens: int, past: int = 0) -> np.ndarray:
        """Count so many positions through the language model, behind others."""
        layers, width = self.shape.layers, self.shape.text.hidden_size
        looked = 4 * layers * (tokens * past + tokens**2 / 2) * width
        moved = (32 * self.number + 56) * width
        moved += 8 * self.number * self.shape.text.intermediate_size
        products = 2 * tokens * self.shape.sizes.quantisable
        return np.array([products, looked, tokens * layers * moved])

    def _logits(self, positions: int) -> np.ndarray:
        """Count the head at so many positions."""
        size = positions * self.shape.text.vocab_size
        return np.array([2 * size * self.shape.text.hidden_size, 0, 16 * size])

    def _work(self, tokens: int, read_out: int = 1) -> float:
        """Return the bytes of the largest of a layer over so many positions and the logits."""
        seen, width, inner, *_ = self.shape.seen
        text = self.shape.text
        layer = tokens * (2 * text.hidden_size + 3 * text.intermediate_size)
        logits = read_out * text.vocab_size * (12 + self.number * (self.number < 4))
        return max(self.number * max(layer, 2 * seen * (width + inner)), logits)
