"""CXR-LLaVA Workbench: chest radiographs in, reports out, and the means to study both.

    import workbench as wb

    model = wb.load_model("mini")
    report = model.report(wb.load_radiograph("chest.dcm"))

Every public name is imported on first use (PEP 562), so that `import workbench` costs nothing and
a shell command pays only for what it needs. `workbench.phantom` is a subpackage that can be called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names
from workbench._version import __version__ as __version__

if TYPE_CHECKING:
    from workbench import attention as attention
    from workbench import bench as bench
    from workbench import data as data
    from workbench import errors as errors
    from workbench import evaluation as evaluation
    from workbench import figures as figures
    from workbench import findings as findings
    from workbench import finetune as finetune
    from workbench import hallucination as hallucination
    from workbench import imaging as imaging
    from workbench import model as model
    from workbench import reports as reports
    from workbench import review as review
    from workbench import runs as runs
    from workbench import saliency as saliency
    from workbench.backends.vlm_reader import plan as plan
    from workbench.bench.levels import levels as levels
    from workbench.errors import CheckpointError as CheckpointError
    from workbench.errors import ContextBudgetError as ContextBudgetError
    from workbench.errors import DeviceError as DeviceError
    from workbench.errors import InputError as InputError
    from workbench.errors import MissingDependencyError as MissingDependencyError
    from workbench.errors import OptionError as OptionError
    from workbench.errors import RunError as RunError
    from workbench.errors import TrainingError as TrainingError
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.generation import DecodingSettings as DecodingSettings
    from workbench.generation import Generation as Generation
    from workbench.imaging import load_radiograph as load_radiograph
    from workbench.interface import ChestXrayModel as ChestXrayModel
    from workbench.interface import load_model as load_model
    from workbench.phantom.case import phantom as phantom
    from workbench.radiograph import InputContract as InputContract
    from workbench.radiograph import Radiograph as Radiograph
    from workbench.review.study import reader_study as reader_study
    from workbench.runs.running import run as run
    from workbench.settings import Settings as Settings
    from workbench.trace import ImageMap as ImageMap
    from workbench.trace import Trace as Trace
    from workbench.trace import load_trace as load_trace
    from workbench.widgets.explorer import explore as explore
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__, modules=("phantom",))
    __all__ += ["__version__"]
