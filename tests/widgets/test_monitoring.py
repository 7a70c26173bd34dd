"""A run seen from outside: what each stage of its folder means; looking leaves no trace."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import psutil
import pytest

import workbench as wb
import workbench.widgets
from tests.widgets.asking import Kept
from tests.widgets.runs_made import Folder
from workbench.finetune.recipe import read_recipe
from workbench.finetune.session import claim
from workbench.widgets.monitor import Monitor, run_state, spoken, still_html


@pytest.fixture
def made(tmp_path):
    return Folder(tmp_path / "ft")


def this_process() -> dict:
    own = psutil.Process()
    return {"pid": own.pid, "started": own.create_time(), "boot": psutil.boot_time()}


def ended_process() -> dict:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return this_process() | {"pid": ended.pid}


def test_a_folder_that_is_not_there_yet_is_waited_for(made):
    assert made.look().state == "waiting"
    made.folder.mkdir()
    assert made.look().state == "waiting"
    made.begin()
    assert made.look().state == "starting"
    made.checkpoint(50)
    assert made.look().state == "running"


def test_a_folder_that_training_has_taken_is_understood(made):
    claim(made.folder, read_recipe("stage3_lora"), resume=False)
    found = made.look()
    assert (found.state, found.name, found.stage) == ("starting", "stage3_lora", "instruct")
    assert found.measure == "macro_f1" and "Trained on phantoms" in found.notice


def test_curve_best_speed_and_time_left_come_from_what_was_logged(made):
    made.begin()
    made.checkpoint(50, ago=100)
    made.checkpoint(100, ago=0)
    found = made.look()
    assert [row["step"] for row in found.curve] == list(range(10, 101, 10))
    assert found.curve[-1] == {"step": 100, "loss": 0.01, "learning_rate": 1e-4, "macro_f1": 0.5}
    assert (found.step, found.steps) == (100, 200)
    assert found.rate == pytest.approx(0.5)
    assert found.left == pytest.approx(200)
    assert found.best == {"step": 100, "value": 0.5}


def test_silence_is_told_with_what_to_do(made):
    made.begin()
    made.checkpoint(50, ago=1000)
    made.quiet(1000)
    found = made.look()
    assert found.state == "silent" and found.left is None
    assert "nothing has changed for 16 min 40 s" in found.words
    assert "resume=True (--resume) continues from step 50" in found.words


def test_a_slow_run_is_not_called_silent_early(made):
    made.begin()
    made.checkpoint(50, ago=1400)
    made.checkpoint(100, ago=700)
    made.quiet(700)
    assert made.look().state == "running"


def test_a_process_that_lives_runs_and_one_that_does_not_has_stopped(made):
    made.begin()
    made.log("begin", step=0, steps=200, process=this_process())
    made.quiet(10_000)
    assert made.look().state == "running"
    made.log("begin", step=0, steps=200, process=ended_process())
    found = made.look()
    assert found.state == "stopped" and "continues from the beginning" in found.words


def test_a_number_that_another_process_has_now_is_not_taken_for_the_run(made):
    made.begin()
    made.log("begin", step=0, process=this_process() | {"started": 1.0})
    assert made.look().state == "stopped"


def test_a_process_of_another_machine_is_judged_by_its_files(made):
    made.begin()
    made.log("begin", step=0, process=ended_process() | {"boot": 1.0})
    assert made.look().state == "running"
    made.quiet(10_000)
    assert made.look().state == "silent"


def test_logged_steps_come_before_the_next_checkpoint(made):
    made.begin()
    made.log("begin", step=0, time=100.0, steps=200, process=this_process())
    for step in (1, 2, 3):
        used = {"memory": 3e9, "memory_as": "of the process, now"}
        made.log("log", step=step, time=100.0 + 4 * step, loss=1 / step, **used)
    found = made.look()
    assert [row["loss"] for row in found.curve] == [1, 1 / 2, 1 / 3]
    assert found.rate == pytest.approx(0.25) and found.left == pytest.approx(197 * 4)
    assert found.memory == {"bytes": 3e9, "as": "of the process, now"}


def test_half_a_line_is_read_when_it_is_whole(made):
    made.begin()
    made.log("begin", step=0, steps=9)
    with made.progress.open("ab") as handle:
        handle.write(b'{"what": "log", "step": 4, "lo')
    assert made.look().curve == ()
    with made.progress.open("ab") as handle:
        handle.write(b'ss": 2.5}\nnonsense\n[1]\n')
    assert made.look().curve == ({"step": 4, "loss": 2.5},)


def test_a_resumed_run_does_its_lost_steps_again(made):
    made.begin()
    made.log("begin", step=0, time=0.0, steps=9)
    for step in range(1, 8):
        made.log("log", step=step, time=float(step), loss=9.0)
    assert made.look().step == 7
    made.log("begin", step=5, time=90_000.0, steps=9)
    assert [row["step"] for row in made.look().curve] == [1, 2, 3, 4, 5]
    made.log("log", step=6, time=90_002.0, loss=1.0)
    found = made.look()
    assert found.curve[-1]["loss"] == 1.0 and found.rate == pytest.approx(0.5)


def test_all_steps_done_and_no_ledger_means_measuring(made):
    made.begin()
    made.checkpoint(200)
    assert made.look().state == "measuring"


def test_half_written_files_are_no_error(made):
    made.begin()
    made.checkpoint(50)
    (made.folder / "checkpoints" / "tmp-checkpoint-150").mkdir()
    (made.folder / "ledger.json").write_text('{"name": "ft", "sta')
    found = made.look()
    assert (found.state, found.step) == ("running", 50)
    (made.folder / "recipe.yaml").write_text("stage: [")
    assert made.look().state == "waiting"


def test_a_checkpoint_without_weights_is_none_to_go_on_from(made):
    made.begin()
    made.checkpoint(50)
    made.checkpoint(100, whole=False)
    made.quiet(1000)
    assert "continues from step 50" in made.look().words


def test_a_finished_run_shows_its_ledger(made):
    made.begin()
    made.checkpoint(200)
    made.finish()
    found = made.look()
    assert found.state == "finished" and found.left == 0
    said = [row["verdict"] for row in found.ledger["rows"]]
    assert said == ["better", "worse", "no clear change"]
    assert found.ledger["rows"][0]["kind"] == "trained for"
    assert found.memory == {"bytes": 2e9, "as": "peak of the whole process"}
    assert found.rate == pytest.approx(2.0)
    assert found.ledger["notes"] == ["<b>a note</b>"]
    html = still_html(found, "ft")
    assert "worse" in html and found.notice in html


def test_another_run_in_the_same_folder_is_begun_anew(made):
    made.begin()
    made.checkpoint(50)
    assert made.look().step == 50
    made.clear()
    made.begin(name="second")
    found = made.look()
    assert (found.name, found.step, found.curve) == ("second", None, ())


def test_looking_writes_nothing(made):
    made.begin()
    made.checkpoint(50)
    made.log("begin", step=0)
    made.finish()

    def seen():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in made.folder.rglob("*")}

    before = seen()
    for _ in range(3):
        made.look()
    assert seen() == before


def test_spoken_times():
    assert [spoken(s) for s in (0, 59.4, 61, 7384)] == ["0 s", "59 s", "1 min 1 s", "2 h 3 min"]


# --- the widget -----------------------------------------------------------------------------------


class Bench(Kept, Monitor):
    """A monitor whose messages are kept."""

    def __init__(self, folder, every):
        self.every = every
        super().__init__(folder)


def test_a_view_gets_everything_and_then_only_what_is_new(made):
    made.begin()
    made.checkpoint(50)
    bench = Bench(made.folder, every=3600)
    bench._receive({"id": 1, "ask": "state"})
    whole = bench.sent[-1]["answer"]
    assert whole["folder"] == "ft" and len(whole["run"]["curve"]) == 5
    assert not bench.tick()
    assert bench.sent[-1]["tell"] == "run" and "curve" not in bench.sent[-1]["run"]
    made.checkpoint(100)
    bench._receive({"id": 2, "ask": "look"})
    assert len(bench.sent[-2]["run"]["curve"]) == 10
    assert bench.sent[-1] == {"id": 2, "answer": {}}
    made.finish()
    assert bench.tick() is True
    assert bench.sent[-1]["run"]["ledger"]["rows"]
    json.dumps(bench.sent)
    bench.close()


def test_the_thread_ends_with_the_run_and_with_the_widget(made):
    made.begin()
    made.checkpoint(50)
    bench = Bench(made.folder, every=0.01)
    bench._receive({"id": 1, "ask": "state"})
    thread = bench._thread
    assert thread.is_alive()
    made.finish()
    thread.join(20)
    assert not thread.is_alive() and bench.sent[-1]["run"]["state"] == "finished"
    other = Bench(made.folder, every=3600)
    other._receive({"id": 1, "ask": "state"})
    other.close()
    other._thread.join(20)
    assert not other._thread.is_alive()


def test_a_look_that_fails_is_followed_by_the_next(made, monkeypatch, caplog):
    made.begin()
    bench = Bench(made.folder, every=0.01)
    looks = []

    def look():
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("odd")
        return True

    monkeypatch.setattr(bench, "tick", look)
    bench._start()
    bench._thread.join(20)
    assert len(looks) == 2 and "a look at the run failed" in caplog.text
    bench.close()


def test_the_module_is_callable(made):
    module = importlib.import_module("workbench.widgets.monitor")
    for found in (module, wb.finetune.monitor, workbench.widgets.monitor):
        assert isinstance(found(made.folder), Monitor)


def test_a_real_run_is_read_to_its_end(tiny, tmp_path):
    import torch

    from tests.finetune.conftest import tiny_recipe
    from workbench.finetune.running import run

    torch.set_num_threads(1)
    folder = tmp_path / "run"
    seen = []

    class Look:
        """Looks at every save, as another process might."""

        def __getattr__(self, name):
            def act(args, state, control, **_):
                if name == "on_save":
                    seen.append(run_state(folder))
                return control

            return act

    run(tiny_recipe(tiny), out=folder, callbacks=[Look()])
    assert [found.step for found in seen] == sorted({found.step for found in seen})
    assert seen[0].state == "running" and seen[0].steps == seen[-1].step
    found = run_state(folder)
    assert found.state == "finished" and found.ledger["rows"]
    assert [row["step"] for row in found.curve][-1] == found.steps
