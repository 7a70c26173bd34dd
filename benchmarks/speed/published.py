"""The published way under the library that the published code was written for, against ours.

transformers 4.36.2 lies in a folder of its own, which `TRANSFORMERS_4_36` names:

    pip install --target DIR --no-deps transformers==4.36.2 tokenizers==0.15.2 \\
        huggingface-hub==0.23.4

A process of its own holds it and computes in float32, one image and one prompt at a time: an
open_clip tower of torch's own layers, a linear projector, `LlamaForCausalLM.generate`. Ours takes
turns with it in bfloat16 and in float32, on the same random weights.

Does not know: whether texts are equal; those of bfloat16 part from the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

COUNT = 8


def published(plan) -> dict:
    """Write 8 reports, and answer 8 questions on one image: ours over the published way."""
    from safetensors.torch import save_file

    from speed.clock import Times, ratio, timed
    from speed.decoding import Bench

    narrow, single = Bench(plan.sizes), Bench(plan.sizes)
    narrow.model.bfloat16()
    llama = single.model.llama.config
    sizes = {
        "hidden_size": llama.hidden_size, "intermediate_size": llama.intermediate_size,
        "num_hidden_layers": llama.num_hidden_layers, "vocab_size": llama.vocab_size,
        "num_attention_heads": llama.num_attention_heads,
        "num_key_value_heads": llama.num_key_value_heads,
        "max_position_embeddings": llama.max_position_embeddings,
    }  # fmt: skip
    tokens = {"reports": plan.sizes.new_tokens, "questions": plan.sizes.new_tokens // 4}
    first, found = single.pixels(), {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        weights = str(Path(folder) / "model.safetensors")
        save_file({k: v.contiguous() for k, v in single.model.state_dict().items()}, weights)
        with _Other({"weights": weights, "llama": sizes, "side": plan.sizes.side}) as other:
            for task, new in tokens.items():
                same = task == "questions"
                asked = [
                    single.request(
                        first if same else single.pixels(), tokens=new, question=number * same
                    )
                    for number in range(COUNT)
                ]
                for write in (other.write, narrow.write, single.write):
                    write(asked[:1])  # warms up
                times = {name: Times() for name in ("published", "float32", "bfloat16")}
                for _ in range(max(1, plan.rounds)):
                    wall, cpu = other.write(asked)
                    times["published"].wall.append(wall)
                    times["published"].cpu.append(cpu)
                    for name, bench in (("bfloat16", narrow), ("float32", single)):
                        timed(lambda bench=bench, asked=asked: bench.write(asked), times[name])
                found[task] = {
                    "times": {name: one.to_dict() for name, one in times.items()},
                    **{
                        f"over_{n}": ratio(times["published"], times[n])
                        for n in times
                        if n[0] != "p"
                    },
                }
                print(task, json.dumps(found[task]), file=sys.stderr, flush=True)
    return found


class _Other:
    """The other process: requests go in as lines of JSON, seconds come out."""

    def __init__(self, model: dict) -> None:
        peer = os.environ["TRANSFORMERS_4_36"]
        self._process = subprocess.Popen(
            [sys.executable, __file__], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": peer},
        )  # fmt: skip
        self._say({**model, "threads": torch.get_num_threads()})

    def _say(self, what: object) -> dict:
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def write(self, requests) -> tuple[float, float]:
        """Answer requests one by one; seconds of the wall and of the processor."""
        with tempfile.NamedTemporaryFile(suffix=".pt") as file:
            torch.save([one.pixel_values for one in requests], file.name)
            ids = [list(one.ids) for one in requests]
            new = requests[0].settings.max_new_tokens
            done = self._say({"pixels": file.name, "ids": ids, "new": new})
        return done["wall"], done["cpu"]

    def __enter__(self) -> _Other:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()


class Block(nn.Module):
    """A block of open_clip's tower."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self.ln_1(hidden)
        hidden = hidden + self.attn(normed, normed, normed, need_weights=False)[0]
        inner = nn.functional.gelu(self.mlp["c_fc"](self.ln_2(hidden)))
        return hidden + self.mlp["c_proj"](inner)


class Peer:
    """Tower, projector and transformers' own language model."""

    def __init__(self, made: dict) -> None:
        from safetensors.torch import load_file
        from transformers import LlamaConfig, LlamaForCausalLM

        state = load_file(made["weights"])
        self.state = {
            name.removeprefix("vision_tower."): one
            for name, one in state.items() if name.startswith(("vision", "mm_"))
        }  # fmt: skip
        width = len(self.state["class_embedding"])
        prefix = "transformer.resblocks."
        count = 1 + max(int(n.split(".")[2]) for n in self.state if n.startswith(prefix))
        self.blocks = nn.ModuleList(Block(width, width // 64) for _ in range(count)).eval()
        self.blocks.load_state_dict(
            {n.removeprefix(prefix): one for n, one in self.state.items() if n.startswith(prefix)}
        )
        self.llama = LlamaForCausalLM(LlamaConfig(**made["llama"])).eval()
        words = {n.replace("llama.", "model.", 1): one for n, one in state.items()}
        own = self.llama.state_dict()
        self.llama.load_state_dict({name: words[name] for name in own})

    @torch.inference_mode()
    def write(self, pixels: torch.Tensor, ids: list[int], new: int) -> None:
        """Answer one prompt by exactly so many tokens."""
        state, (width,) = self.state, self.state["class_embedding"].shape
        conv = state["conv1.weight"]
        seen = nn.functional.conv2d(pixels, conv, stride=conv.shape[-1]).flatten(2).transpose(1, 2)
        seen = torch.cat((state["class_embedding"][None, None], seen), 1)
        hidden = self._norm("ln_pre", seen + state["positional_embedding"], width)
        for block in self.blocks:
            hidden = block(hidden)
        image = nn.functional.linear(
            self._norm("ln_post", hidden, width)[:, 1:],
            state["mm_projector.weight"], state["mm_projector.bias"],
        )  # fmt: skip
        cut = next(number for number, one in enumerate(ids) if one < 0)
        words = self.llama.model.embed_tokens(torch.tensor([ids[:cut] + ids[cut + 1 :]]))
        embeds = torch.cat((words[:, :cut], image, words[:, cut:]), 1)
        self.llama.generate(
            inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0,
        )  # fmt: skip

    def _norm(self, name: str, hidden: torch.Tensor, width: int) -> torch.Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return nn.functional.layer_norm(hidden, (width,), weight, bias)


def main() -> None:
    """Answer on standard output what comes on standard input."""
    made = json.loads(sys.stdin.readline())
    torch.set_num_threads(made["threads"])
    peer = Peer(made)
    print("{}", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        images = torch.load(asked["pixels"], weights_only=True)
        wall, cpu = time.perf_counter(), time.process_time()
        for pixels, ids in zip(images, asked["ids"], strict=True):
            peer.write(pixels, ids, asked["new"])
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(spent), flush=True)


if __name__ == "__main__":
    main()
