"""What an accelerator does: the same numbers as a CPU, how fast, and in what memory.

    make bench-gpu                                          a random model of the full size
    python benchmarks/gpu.py --checkpoint ECOFRI/CXR-LLAVA-v2   the published weights
    python benchmarks/gpu.py --device cpu --size tiny       a trial without an accelerator
    python benchmarks/gpu.py --device cpu --only inside --tokens 24 --method relevancy
                                                            the full size in the memory of a CPU

Sections run one after the other until `--minutes` are over; one that fails says so and the next
begins. Times are the shortest of a few rounds after one that warms up; memory is what torch had
allocated at most. Everything is written to DIRECTORY/gpu.json after each section; `--page FILE`
writes measured and predicted figures from such a file. Exit code 1 where a section failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Tokens of a report, and of one in a trial.
NEW_TOKENS, TRIAL_TOKENS = 128, 16
METHODS = (
    "attention", "rollout", "relevancy", "input_x_gradient", "smoothgrad", "integrated_gradients",
    "grad_cam", "occlusion", "adaptive_occlusion",
)  # fmt: skip


def main() -> int:
    """Run the sections and write what they found."""
    options = _parser().parse_args()
    if options.page:
        from speed.gpu import page

        source = options.out / "gpu.json"
        found = json.loads(source.read_text()) if source.is_file() else None
        options.page.write_text(page(found), encoding="utf-8")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-", dir=options.scratch) as folder:
        bench = Bench(options, Path(folder))
        for name in options.only or SECTIONS:
            bench.run(name)
    print(json.dumps(bench.found, indent=1))
    return int(any("error" in one for one in bench.found["sections"].values()))


class Bench:
    """The model that the sections share, and what they found.

    Attributes:
        tokens: of a report.
        found: what is written: machine, model, and a mapping for each section.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        import torch

        from workbench.model.placement import find_hardware

        self.options, self.folder = options, folder
        gpus = find_hardware().gpus
        self.tokens = options.tokens or (TRIAL_TOKENS if options.size == "tiny" else NEW_TOKENS)
        self.device = options.device
        if self.device == "auto":
            self.device = gpus[0].device if gpus else "mps" if find_hardware().mps else "cpu"
        self.ends = time.perf_counter() + 60 * options.minutes
        self.found = {"machine": _machine(self.device), "model": "", "sections": {}}
        self._model = None
        #: A text, its image and its float32 logits, which other dtypes are held against.
        self.reference: dict = {}
        torch.set_float32_matmul_precision("highest")

    def run(self, name: str) -> None:
        """Run one section, keep its numbers or its error, and write the file."""
        began = time.perf_counter()
        if began > self.ends:
            result = {"left_out": f"{self.options.minutes:g} minutes were over"}
        else:
            self.empty()
            try:
                result = SECTIONS[name](self)
            except Exception as error:
                traceback.print_exc()
                result = {"error": f"{type(error).__name__}: {error}"[:500]}
        self.found["sections"][name] = {**result, "spent": time.perf_counter() - began}
        print(name, json.dumps(self.found["sections"][name])[:2000], file=sys.stderr, flush=True)
        target = self.options.out / "gpu.json"
        target.write_text(json.dumps(self.found, indent=1) + "\n")

    def source(self) -> str:
        """Return the checkpoint that is measured; a random one is made once."""
        if self.options.checkpoint:
            return self.options.checkpoint
        directory = self.folder / "model"
        if not directory.exists():
            self._write_random(directory)
        return str(directory)

    def _write_random(self, directory: Path) -> None:
        """Write a random checkpoint in the published layout."""
        from speed.models import MIDDLE, TINY, checkpoint, full_checkpoint

        directory.mkdir()
        if self.options.size == "full":
            full_checkpoint(directory, self.options.layers)
        else:
            checkpoint({"middle": MIDDLE, "tiny": TINY}[self.options.size], str(directory))

    def load(self, **options: object):
        """Load that checkpoint, and let go of what was loaded before."""
        import workbench as wb

        self._model = None
        self.empty()
        self._model = wb.load_model(self.source(), device=self.device, **options)
        self.found["model"] = self.found["model"] or repr(self._model)
        return self._model

    @property
    def model(self):
        """The model in the dtype that `load_model` chooses."""
        return self._model or self.load()

    def empty(self) -> None:
        """Give memory back, and count the highest from here."""
        import gc

        import torch

        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Return the most bytes that were allocated since `empty`; on a CPU of the process."""
        import torch

        from workbench._progress import peak_memory

        cuda = self.device.startswith("cuda")
        return torch.cuda.max_memory_allocated() if cuda else peak_memory()

    def seconds(self, work: Callable[[], object], rounds: int = 2) -> float:
        """Return the shortest time of some work, after one round that warms up."""
        work()
        return min(self._once(work) for _ in range(rounds))

    def _once(self, work: Callable[[], object]) -> float:
        import torch

        began = time.perf_counter()
        work()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def rates(self, count: int, kind: str = "16 bit") -> dict:
        """Measure so many reports together: seconds, tokens a second of all, bytes."""
        from speed.gpu import CARDS, predict

        model = self.model
        images = _noise(count, model.image_size)
        written: list[int] = []

        def write(tokens: int) -> None:
            model.forget_images()
            texts = model.report_many(images, batch_size=count, max_new_tokens=tokens)
            written.append(sum(len(text.token_ids) for text in texts))

        first = self.seconds(lambda: write(1), 1)
        whole = self.seconds(lambda: write(self.tokens), 1)
        expected = predict(CARDS[0], kind, count)["memory_bytes"]
        return {
            "batch": count,
            "predicted_bytes": expected if self.options.size == "full" else None,
            "prompt_seconds": first,
            "report_seconds": whole,
            "tokens": written[-1],
            "tokens_per_second": (written[-1] - count) / max(whole - first, 1e-9),
            "memory_bytes": self.peak(),
        }


def agreement(bench: Bench) -> dict:
    """`mini` on the accelerator against a CPU, both in float32: logits, texts, maps."""
    import numpy as np

    import workbench as wb

    here, there = (
        wb.load_model("mini", device=device, dtype="float32") for device in (bench.device, "cpu")
    )
    case = wb.phantom(seed=11, findings=["pleural effusion"])
    texts = [model.report(case, max_new_tokens=24) for model in (here, there)]
    logits = [_forced(model, case, texts[1]) for model in (here, there)]
    traces = [model.trace(case, text) for model, text in zip((here, there), texts, strict=True)]
    found = {
        "same_text": texts[0].text == texts[1].text,
        "largest_logit_difference": float((logits[0] - logits[1]).abs().max()),
        "batch_is_single": here.report_many([case] * 3, max_new_tokens=24)[2].text == texts[0].text,
        "maps": {},
    }
    for method in METHODS:
        try:
            one, other = (
                wb.saliency.explain(trace, token=5, method=method).values for trace in traces
            )
            scale = float(np.abs(other).max()) or 1.0
            found["maps"][method] = float(np.abs(one - other).max()) / scale
        except Exception as error:
            traceback.print_exc()
            found["maps"][method] = f"{type(error).__name__}: {error}"[:300]
    grounded = [wb.hallucination.ground(trace).to_frame() for trace in traces]
    numbers = [frame.select_dtypes("number").to_numpy() for frame in grounded]
    found["largest_grounding_difference"] = float(np.nanmax(np.abs(numbers[0] - numbers[1])))
    narrow = wb.load_model("mini", device=bench.device, dtype="bfloat16")
    found["bfloat16_logit_difference"] = float(
        (_forced(narrow, case, texts[1]) - logits[1]).abs().max()
    )
    return found


def families(bench: Bench) -> dict:
    """Tiny random checkpoints of other families: every check of `workbench doctor --model`."""
    from importlib import util

    from workbench.backends.checks import check
    from workbench.backends.vlm_reader import VlmReader, load_vlm
    from workbench.model.source import resolve_source

    where = ROOT / "tests" / "backends" / "families.py"
    spec = util.spec_from_file_location("families", where)
    made = util.module_from_spec(spec)
    spec.loader.exec_module(made)
    found = {}
    for name, write in made.FAMILIES.items():
        try:
            directory = bench.folder / name
            directory.mkdir()
            write(directory)
            options = {"device": bench.device, "dtype": "float32", "verify": False}
            rows = check(VlmReader(*load_vlm(resolve_source(str(directory)), **options)))
            found[name] = {row.array: [row.max_abs_diff, row.tolerance] for row in rows.misses}
            found[name] = found[name] or f"{len(rows.rows)} hold"
        except Exception as error:
            traceback.print_exc()
            found[name] = f"{type(error).__name__}: {error}"[:300]
    return found


def load(bench: Bench) -> dict:
    """Load the checkpoint from disk to the accelerator."""
    source = bench.source()
    began = time.perf_counter()
    model = bench.load()
    return {
        "seconds": time.perf_counter() - began,
        "source": Path(source).name,
        "dtype": str(model.identity.dtype),
        "memory_bytes": bench.peak(),
    }


def report(bench: Bench) -> dict:
    """Reports of 128 tokens, one image and many together."""
    batches = (1, 2) if bench.options.size == "tiny" else (1, 8, 32, 64)
    return {"batches": [bench.rates(count) for count in batches]}


def questions(bench: Bench) -> dict:
    """8 questions about one image, and the image and prompt read anew for each."""
    model = bench.model
    image = _noise(1, model.image_size)[0]
    asked = [f"Is there a finding of kind {number} in this radiograph?" for number in range(8)]

    def anew() -> None:
        for question in asked:
            model.forget_images()
            model.ask(image, question, max_new_tokens=8)

    def together() -> None:
        model.forget_images()
        model.ask_many(image, asked, max_new_tokens=8)

    slow, fast = bench.seconds(anew, 1), bench.seconds(together)
    return {"anew": slow, "together": fast, "ratio": slow / fast, "memory_bytes": bench.peak()}


def inside(bench: Bench) -> dict:
    """A report, its trace, a map by each method, grounding: seconds and bytes beyond weights.

    On a CPU once; bytes beyond what the process held before, with mapped files and without.
    """
    from speed.machine import memory_beyond

    import workbench as wb

    model, done = bench.model, []
    image = _noise(1, model.image_size)[0]
    found: dict = {"weights_bytes": _weights(model)}

    def measured(name: str, work: Callable[[], object]) -> None:
        bench.empty()
        try:
            if bench.device == "cpu":
                with memory_beyond() as beyond:
                    seconds = bench._once(lambda: done.append(work()))
            else:
                seconds = bench.seconds(lambda: done.append(work()), 1)
                beyond = {"beyond_bytes": bench.peak() - _weights(model)}
            found[name] = {"seconds": seconds, **beyond}
        except Exception as error:
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(name, found[name], file=sys.stderr, flush=True)

    measured("report", lambda: model.report(image, max_new_tokens=bench.tokens))
    text = done[-1]
    measured("trace", lambda: model.trace(image, text))
    trace = done[-1]
    found["trace"]["positions"] = trace.layout.length
    for method in bench.options.method or METHODS:
        if time.perf_counter() < bench.ends:
            measured(
                method,
                lambda method=method: wb.saliency.explain(trace, token=5, method=method),
            )
    measured("grounding", lambda: wb.hallucination.ground(trace))
    return found


def precision(bench: Bench) -> dict:
    """Logits of one text in the dtype that is chosen, against float32 on the same device."""
    return {
        name: _against_float32(bench, dtype=name) for name in ("float32", "bfloat16", "float16")
    }


def quantised(bench: Bench) -> dict:
    """8 and 4 bit through bitsandbytes: speed, bytes, and logits against float32."""
    found = {}
    for name in ("8bit", "4bit"):
        found[name] = _against_float32(bench, quantize=name)
        if "error" not in found[name]:
            found[name] |= {"batches": [bench.rates(count, name) for count in (1, 8)]}
    return found


def training(bench: Bench) -> dict:
    """Steps of LoRA: seconds of each, bytes beside what the planner predicts."""
    return _steps(bench, "lora", None)


def training_4bit(bench: Bench) -> dict:
    """Steps of QLoRA: 4-bit weights below the same updates."""
    return _steps(bench, "qlora", "4bit")


SECTIONS: dict[str, Callable[[Bench], dict]] = {
    "agreement": agreement,
    "families": families,
    "load": load,
    "report": report,
    "questions": questions,
    "inside": inside,
    "precision": precision,
    "quantised": quantised,
    "training": training,
    "training_4bit": training_4bit,
}


def _against_float32(bench: Bench, **options: object) -> dict:
    """Compare logits of one forced text with those of float32 weights."""
    import torch

    if not bench.reference:
        model = bench.load(dtype="float32")
        image = _noise(1, model.image_size)[0]
        text = model.report(image, max_new_tokens=64)
        bench.reference.update(image=image, text=text, logits=_forced(model, image, text).double())
    try:
        model = bench.load(**options)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    found = _forced(model, bench.reference["image"], bench.reference["text"]).double()
    wanted = bench.reference["logits"]
    same = (found.argmax(-1) == wanted.argmax(-1)).double().mean()
    cosine = torch.nn.functional.cosine_similarity(found, wanted, dim=-1)
    return {
        "largest_difference": float((found - wanted).abs().max()),
        "deviation_of_logits": float(wanted.std()),
        "lowest_cosine": float(cosine.min()),
        "same_choice": float(same),
        "memory_bytes": bench.peak(),
    }


def _steps(bench: Bench, name: str, quantize: str | None) -> dict:
    import workbench as wb
    from workbench.finetune.recipe import Recipe

    bench._model = None
    bench.empty()
    recipe = Recipe(
        name=name,
        base=bench.source(),
        data={
            "phantoms": {"first_seed": 7_000_000, "count": 10},
            "validation": 0.2,
            "tasks": ["report"],
        },
        tuning={"language": "lora", "projector": "full", "rank": 16, "alpha": 32,
                "quantize": quantize},
        training={"epochs": 1, "batch_size": 2, "micro_batch": 1, "augment": False},
        evaluation={"times": 1, "cases": 1, "new_tokens": 4},
    )  # fmt: skip
    run = wb.finetune.run(recipe, out=bench.folder / name, device=bench.device)
    ledger = run.ledger
    return {
        "cost": dict(ledger.cost),
        "memory": dict(ledger.memory),
        "losses": [row["loss"] for row in ledger.curves if "loss" in row],
        "frozen_unchanged": ledger.frozen.get("equal"),
        "notes": list(ledger.notes),
    }


def _forced(model, image, text):
    """Return the float32 logits, (n, V) on the CPU, that each token of a text is chosen from."""
    model.forget_images()
    return model.force(model.pixels(image), text.prompt_ids, text.token_ids).float().cpu()


def _weights(model) -> int:
    return sum(p.numel() * p.element_size() for p in model.network.parameters())


def _noise(count: int, side: int) -> list:
    from speed.models import radiographs

    return radiographs(count, side)


def _machine(device: str) -> dict:
    import importlib.metadata as metadata

    import torch

    cuda = device.startswith("cuda")
    packages = ("torch", "transformers", "accelerate", "peft", "bitsandbytes")
    found = {name: None for name in packages}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "device": torch.cuda.get_device_name() if cuda else device,
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
        "python": platform.python_version(),
        **found,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench-gpu"), help="folder")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="a section; again for more"
    )
    parser.add_argument("--checkpoint", help="what is measured instead of random weights")
    parser.add_argument("--size", choices=("full", "middle", "tiny"), default="full")
    parser.add_argument("--layers", type=float, default=1, help="share of the full size's layers")
    parser.add_argument("--tokens", type=int, help="of a report; 128, and 16 of a tiny model")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help="a map of `inside`; again for more"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N")
    parser.add_argument("--minutes", type=float, default=8, help="no section begins after these")
    parser.add_argument("--scratch", type=Path, help="where 14 GB can be written for a while")
    parser.add_argument(
        "--page", type=Path, help="write the page from gpu.json there, if any, and measure nothing"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
