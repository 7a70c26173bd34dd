"""Training: the recipes that make and change models, and proof of what each run changed.

    run = wb.finetune.run("stage3_lora", out="runs/fracture")     # or a YAML file, or a Recipe
    run.ledger                                                    # what it cost and changed
    wb.finetune.monitor("runs/fracture")                          # while it trains
    wb.finetune.preview("stage3_lora")                            # what the model will see
    wb.finetune.plan()                                            # memory, before loading
    model = wb.finetune.load_adapter("mini", "runs/fracture/adapter")
    wb.finetune.examine(base, model, finding="fracture")          # on unseen phantoms
    wb.finetune.compare("runs/a", "runs/b")

`mini` itself is made by `recipes/mini` of the repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.finetune.adapters import export as export
    from workbench.finetune.adapters import load_adapter as load_adapter
    from workbench.finetune.adapters import save_adapter as save_adapter
    from workbench.finetune.comparing import Examination as Examination
    from workbench.finetune.comparing import RunComparison as RunComparison
    from workbench.finetune.comparing import compare as compare
    from workbench.finetune.comparing import examine as examine
    from workbench.finetune.datasets import FeatureCache as FeatureCache
    from workbench.finetune.ledger import Ledger as Ledger
    from workbench.finetune.ledger import Run as Run
    from workbench.finetune.ledger import open_run as open_run
    from workbench.finetune.parts import merge as merge
    from workbench.finetune.planner import MemoryPlan as MemoryPlan
    from workbench.finetune.planner import plan as plan
    from workbench.finetune.priors import clean_priors as clean_priors
    from workbench.finetune.recipe import Recipe as Recipe
    from workbench.finetune.recipe import explain_recipe as explain_recipe
    from workbench.finetune.recipe import read_recipe as read_recipe
    from workbench.finetune.recipe import shipped_recipes as shipped_recipes
    from workbench.finetune.running import Preview as Preview
    from workbench.finetune.running import preview as preview
    from workbench.finetune.running import run as run
    from workbench.widgets.monitor import monitor as monitor
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
