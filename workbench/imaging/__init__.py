"""Read chest radiographs from files: PNG, JPEG, TIFF, BMP and DICOM, 8 to 16 bit.

    image = load_radiograph("chest.dcm")
    image.contract.warnings

What comes out is de-identified: a closed list of tags is kept, everything else never leaves the
reader, and a file called after a person gets another name. Text burned into the pixels can still
identify a patient.
"""

from workbench.imaging.load import load_radiograph
from workbench.imaging.sources import sample_dicom

__all__ = ["load_radiograph", "sample_dicom"]
