"""One radiograph in memory: pixels, input contract, and the fit to a model's square input."""

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.radiograph.contract import WARNING_CODES as WARNING_CODES
    from workbench.radiograph.contract import InputContract as InputContract
    from workbench.radiograph.contract import InputWarning as InputWarning
    from workbench.radiograph.contract import domain_warning as domain_warning
    from workbench.radiograph.contract import frontal_layout as frontal_layout
    from workbench.radiograph.contract import little_seen as little_seen
    from workbench.radiograph.fit import FitGeometry as FitGeometry
    from workbench.radiograph.fit import fit_geometry as fit_geometry
    from workbench.radiograph.fit import fit_pixels as fit_pixels
    from workbench.radiograph.radiograph import Radiograph as Radiograph
    from workbench.radiograph.radiograph import to_unit_range as to_unit_range
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
