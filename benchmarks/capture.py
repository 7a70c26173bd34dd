"""What recording attention costs, against generation alone and against eager attention.

    python benchmarks/capture.py --threads 1 --json capture.json

One random model of middling size (12 layers, width 512, 8 heads, 1,024 image tokens) writes 64
tokens about one image, in five ways:

    plain           generation alone
    capture         generation, then the rows of the language model, averaged over heads, as
                    `workbench.trace.record` takes them
    capture-vision  as capture, and the rows of the vision tower
    eager           generation with eager attention and `output_attentions=True`, everything kept
    eager-vision    as eager, and the rows of the vision tower

Time: all ways in one process, one after the other, several rounds; ratios are taken within a round
and their median is reported, so a slow spell of the machine hits both sides of a ratio.

Memory: the peak resident set of a fresh process for each measurement. A process's peak never falls,
so two ways cannot share one; and a resident set counts what kernels and the allocator hold for a
moment, which a count of tensors does not. A child also inherits the peak of the process that starts
it, so the parent imports nothing but the standard library. Where building the model, and not
generation, set the peak of `plain`, the difference would hide memory; `peak_is_generation` says
that it did not.

`--family llava` or `gemma3` measures a random model of that family instead, through its own
`generate`, without the ways of the vision tower.

Does not know: what the rows mean. Random weights cost what trained ones do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = ("plain", "capture", "capture-vision", "eager", "eager-vision")
TIME_LIMIT, MEMORY_LIMIT = 0.25, 0.10
#: glibc keeps freed blocks by a rule that depends on earlier sizes; this hands large ones back.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
NEW_TOKENS, BEFORE, BEHIND = 64, 33, 33
VOCABULARY = 32_000


def main() -> int:
    """Measure, print, and write JSON; 1 where a bar is missed."""
    options = _parser().parse_args()
    if options.measure:
        print(
            json.dumps(_measure(options.measure, options.threads, options.rounds, options.family))
        )
        return 0
    times = _child(options, "time")
    peaks = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            peaks[way].append(_child(options, way))
    result = summary(times, peaks, options)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "rounds"}, indent=1))
    return 0 if result["time_ok"] and result["memory_ok"] else 1


def summary(times: dict, peaks: dict[str, list[dict]], options: argparse.Namespace) -> dict:
    """Turn seconds and peaks of all rounds into ratios."""
    seconds = times["seconds"]

    def added(way: str) -> float:
        pairs = zip(seconds[way], seconds["plain"], strict=True)
        return statistics.median(one / plain - 1 for one, plain in pairs)

    def extra(way: str) -> float:
        pairs = zip(peaks[way], peaks["plain"], strict=True)
        return statistics.median(one["peak"] - plain["peak"] for one, plain in pairs)

    result = {
        "added_time": added("capture"),
        "added_time_vision": added("capture-vision"),
        "added_time_eager": added("eager"),
        "memory_ratio": extra("capture") / extra("eager"),
        "memory_ratio_vision": extra("capture-vision") / extra("eager-vision"),
        "generation_seconds": statistics.median(seconds["plain"]),
        "extra_bytes": {way: extra(way) for way in WAYS if way != "plain"},
        "kept_bytes": {way: peaks[way][0]["kept"] for way in WAYS},
        "peak_is_generation": all(one["peak"] > one["built"] for one in peaks["plain"]),
        "largest_difference": times["largest_difference"],
        "rows_sum_to_one": times["rows_sum_to_one"],
        "limits": {"added_time": TIME_LIMIT, "memory_ratio": MEMORY_LIMIT},
        "threads": options.threads,
        "versions": times["versions"],
        "rounds": {"seconds": seconds, "peaks": peaks},
    }
    result["time_ok"] = result["added_time"] <= TIME_LIMIT
    result["memory_ok"] = result["memory_ratio"] <= MEMORY_LIMIT
    return result


def _child(options: argparse.Namespace, what: str) -> dict:
    command = [sys.executable, __file__, "--measure", what, "--threads", str(options.threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    if what != "time":
        environment |= ALLOCATOR
    done = subprocess.run(
        [*command, "--rounds", str(options.rounds), "--family", options.family],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(what: str, threads: int, rounds: int, family: str) -> dict:
    """Run in a fresh process: all ways against the clock, or one way for its peak."""
    import torch

    torch.set_num_threads(threads)
    bench = _FamilyBench(family) if family else _Bench()
    return bench.clock(rounds) if what == "time" else bench.weigh(what)


class _FamilyBench:
    """A random model of a family of transformers, one prompt, and the ways without vision."""

    def __init__(self, family: str) -> None:
        import torch
        import transformers as tf

        from workbench.backends.transformers_vlm import Vlm

        torch.manual_seed(0)
        text = {
            "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12,
            "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64,
            "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "initializer_range": 0.05,
        }  # fmt: skip
        vision = {
            "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
            "num_attention_heads": 6, "image_size": 512, "patch_size": 16,
        }  # fmt: skip
        if family == "llava":
            config = tf.LlavaConfig(
                vision_config=tf.CLIPVisionConfig(**vision, projection_dim=32),
                text_config=tf.LlamaConfig(**text), image_token_index=5, vision_feature_layer=-1,
            )  # fmt: skip
        else:
            kinds = ["sliding_attention"] * 5 + ["full_attention"]
            config = tf.Gemma3Config(
                vision_config=tf.SiglipVisionConfig(**vision),
                text_config=tf.Gemma3TextConfig(**text, sliding_window=512, layer_types=kinds * 2),
                image_token_index=5, mm_tokens_per_image=1024,
            )  # fmt: skip
        self.network = tf.AutoModelForImageTextToText.from_config(config).eval()
        words = torch.randint(6, VOCABULARY, (BEFORE + BEHIND,)).tolist()
        ids = [*words[:BEFORE], *[5] * 1024, *words[BEFORE:]]
        self.vlm = Vlm.__new__(Vlm)  # a processor is not needed
        self.vlm.network, self.vlm.image_id = self.network, 5
        self.vlm.decoder = self.network.get_decoder()
        self.vlm.takes = {"logits_to_keep": None}
        self.vlm._types = {"token_type_ids": 1} if family == "gemma3" else {}
        self.inputs, self.ids = {"pixel_values": torch.randn(1, 3, 512, 512)}, ids

    def clock(self, rounds: int) -> dict:
        """Return seconds of every way and round, and how far the captured rows are off."""
        import torch
        import transformers

        ways = ("plain", "capture", "eager")
        seconds = {way: [] for way in ways}
        for turn in range(rounds + 1):
            for way in ways:
                started = time.perf_counter()
                kept = self.run(way)
                if turn:
                    seconds[way].append(time.perf_counter() - started)
                del kept
        tokens, rows = self.run("capture")
        wanted, attentions = self.run("eager")
        apart = _apart(rows, attentions) if tokens == wanted else None
        return {
            "seconds": seconds | {f"{way}-vision": seconds[way] for way in ways[1:]},
            "rows_sum_to_one": bool((rows.sum(-1) - 1).abs().max() < 1e-4),
            "largest_difference": {"language": apart},
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }

    def weigh(self, way: str) -> dict:
        """Return peaks of the resident set before and after one way, bytes."""
        from workbench._progress import peak_memory

        built = peak_memory()
        kept = self.run(way.removesuffix("-vision"))
        return {"built": built, "peak": peak_memory(), "kept": _bytes(kept[1:])}

    def run(self, way: str) -> tuple:
        """Generate in one way; return tokens and what was kept of the attention."""
        import copy

        import torch

        from workbench.backends.attending import watch_attention
        from workbench.trace.record import RowRecorder

        if way == "eager":
            return self._eager()
        cut = len(self.ids) - BEHIND
        with torch.inference_mode():
            start = self.vlm.read(self.inputs, self.ids[:cut])
            sequence = self.vlm.read(self.inputs, self.ids, start=copy.deepcopy(start))
            tokens = [int(sequence.logits.argmax())]
            while len(tokens) < NEW_TOKENS:
                sequence = self.vlm.advance(sequence, tokens[-1])
                tokens.append(int(sequence.logits.argmax()))
            if way == "plain":
                return tokens, None
            recorder = RowRecorder("language", last=len(tokens), mean_heads=True)
            every = [*self.ids, *tokens[:-1]]
            with watch_attention(self.vlm, recorder):
                written = {"written": len(tokens) - 1, "last": len(tokens)}
                self.vlm.read(self.inputs, every, start=start, **written)
        return tokens, torch.nn.functional.pad(recorder.stacked(), (0, 1))

    def _eager(self) -> tuple:
        """Generate with transformers and keep every attention, as a user would."""
        import torch

        self.network.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                made = self.network.generate(
                    **self.inputs, **self.vlm.text_inputs(self.ids), max_new_tokens=NEW_TOKENS,
                    min_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None,
                    output_attentions=True, return_dict_in_generate=True,
                )  # fmt: skip
        finally:
            self.network.set_attn_implementation("sdpa")
        return made.sequences[0, len(self.ids) :].tolist(), made.attentions


class _Bench:
    """The model, one prompt, and the five ways."""

    def __init__(self) -> None:
        import torch

        from workbench.generation.engine import Engine, Request
        from workbench.generation.options import DecodingSettings
        from workbench.model.config import CxrLlavaConfig
        from workbench.model.llava import CxrLlavaForConditionalGeneration
        from workbench.model.prompt import IMAGE_TOKEN_ID

        torch.manual_seed(0)
        config = CxrLlavaConfig(
            clip_vision_cfg={
                "image_size": 512,
                "patch_size": 16,
                "width": 384,
                "layers": 6,
                "head_width": 64,
            },
            clip_embed_dim=32,
            llama={
                "hidden_size": 512,
                "intermediate_size": 1376,
                "max_position_embeddings": 2048,
                "num_attention_heads": 8,
                "num_key_value_heads": 8,
                "num_hidden_layers": 12,
                "vocab_size": VOCABULARY,
                "initializer_range": 0.05,
            },
        )
        self.model = CxrLlavaForConditionalGeneration(config).eval()
        self.engine = Engine(self.model, image_id=IMAGE_TOKEN_ID, end_ids=())
        words = torch.randint(3, VOCABULARY, (BEFORE + BEHIND,)).tolist()
        ids = (*words[:BEFORE], IMAGE_TOKEN_ID, *words[BEFORE:])
        settings = DecodingSettings(max_new_tokens=NEW_TOKENS)
        self.request = Request(torch.randn(1, 1, 512, 512), ids, settings)

    def clock(self, rounds: int) -> dict:
        """Return seconds of every way and round, and how far the captured rows are off."""
        import torch
        import transformers

        seconds = {way: [] for way in WAYS}
        for turn in range(rounds + 1):
            for way in WAYS:
                started = time.perf_counter()
                kept = self.run(way)
                if turn:  # the first round warms up
                    seconds[way].append(time.perf_counter() - started)
                del kept
        tokens, rows, seen = self.run("capture-vision")
        wanted, attentions, patches = self.run("eager-vision")
        same = tokens == wanted
        return {
            "seconds": seconds,
            "rows_sum_to_one": bool((rows.sum(-1) - 1).abs().max() < 1e-4),
            "largest_difference": {
                "language": _apart(rows, attentions) if same else None,
                "vision": float((seen - torch.stack(patches).mean(2)).abs().max()),
            },
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }

    def weigh(self, way: str) -> dict:
        """Return peaks of the resident set before and after one way, bytes."""
        from workbench._progress import peak_memory

        built = peak_memory()
        kept = self.run(way)
        return {"built": built, "peak": peak_memory(), "kept": _bytes(kept[1:])}

    def run(self, way: str) -> tuple:
        """Generate in one way; return tokens and what was kept of the attention."""
        self.engine.prefixes.clear()
        if way.startswith("eager"):
            return self._eager(vision=way.endswith("vision"))
        tokens = [step.tokens[0] for step in self.engine.decode([self.request])]
        if way == "plain":
            return tokens, None, None
        return tokens, self._rows(tokens), self._patches() if way.endswith("vision") else None

    def _rows(self, tokens: list[int]):
        """Return (layers, 1, n, T): what `record_trace` keeps of the language model."""
        import torch

        from workbench.backends.attending import watch_attention
        from workbench.trace.record import RowRecorder

        pixels, ids = self.request.pixel_values, self.request.ids
        recorder = RowRecorder("language", last=len(tokens), mean_heads=True)
        with self.engine.exclusive():
            self.engine.prefix(pixels, ids)
            with watch_attention(self.model, recorder):
                logits = self.engine.force(pixels, ids, tokens)
        logits.log_softmax(-1)
        return torch.nn.functional.pad(recorder.stacked(), (0, 1))

    def _patches(self):
        """Return (layers, 1, N + 1, N + 1): what `record_trace` keeps of the vision tower."""
        import torch

        from workbench.backends.attending import watch_attention
        from workbench.trace.record import RowRecorder

        recorder = RowRecorder("vision", mean_heads=True)
        with torch.inference_mode(), watch_attention(self.model, recorder):
            self.model.vision_tower(self.request.pixel_values)
        return recorder.stacked()

    def _eager(self, *, vision: bool) -> tuple:
        """Generate step by step with a cache and keep every attention, as a user would."""
        import torch
        from transformers import DynamicCache

        model, (head, tail) = self.model, self.engine.split(self.request.ids)
        patches, handles = [], []
        before = model.llama.config._attn_implementation
        tower_before = model.vision_tower.config._attn_implementation
        model.llama.config._attn_implementation = "eager"
        if vision:
            model.vision_tower.config._attn_implementation = "eager"
            for block in model.vision_tower.transformer.resblocks:
                hook = block.attn.register_forward_hook(lambda _, __, out: patches.append(out[1]))
                handles.append(hook)
        try:
            with torch.inference_mode():
                image = model.encode_image(self.request.pixel_values)
                words = model.llama.embed_tokens(torch.tensor([[*head[:-1], *tail]]))
                before_image, behind = words.split((len(head) - 1, len(tail)), 1)
                embeds = torch.cat((before_image, image, behind), 1)
                tokens, attentions, cache = [], [], DynamicCache()
                while len(tokens) < NEW_TOKENS:
                    output = model.llama(
                        inputs_embeds=embeds,
                        past_key_values=cache,
                        use_cache=True,
                        output_attentions=True,
                    )
                    attentions.append(output.attentions)
                    logits = model.lm_head(output.last_hidden_state[:, -1])
                    tokens.append(int(logits.argmax()))
                    embeds = model.llama.embed_tokens(torch.tensor([[tokens[-1]]]))
        finally:
            model.llama.config._attn_implementation = before
            model.vision_tower.config._attn_implementation = tower_before
            for handle in handles:
                handle.remove()
        return tokens, attentions, patches


def _apart(rows, attentions) -> float:
    """Return the largest difference of captured rows to those of eager attention."""
    apart = 0.0
    for token, layers in enumerate(attentions):
        end = max(weights.shape[-1] for weights in layers)
        for layer, weights in enumerate(layers):
            wanted = weights[0, :, -1].mean(0)
            # a layer with a sliding window keeps the last keys only
            found = rows[layer, 0, token, end - len(wanted) : end]
            apart = max(apart, float((found - wanted).abs().max()))
    return apart


def _bytes(kept) -> int:
    """Return the bytes of all tensors in nested lists and tuples."""
    if kept is None:
        return 0
    if isinstance(kept, (list, tuple)):
        return sum(map(_bytes, kept))
    return kept.numel() * kept.element_size()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write all numbers here")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of everything (default 5)")
    parser.add_argument("--family", choices=("", "llava", "gemma3"), default="", help="of model")
    parser.add_argument("--measure", choices=("time", *WAYS), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
