"""Where the films of a review or a study come from, and what of them a page gets: their pixels.

`images` may be a manifest (with the folder its paths are relative to), its file, a mapping
id -> radiograph, phantom or path, or a function of source and id.

Does not know: what is done with them, or that a film can belong to a report of either arm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from workbench.data.images import Root
from workbench.errors import InputError
from workbench.imaging import load_radiograph
from workbench.radiograph import Radiograph
from workbench.review.references import References, open_references
from workbench.widgets._film import film_of

FilmSource = Callable[[str, str], Radiograph]


#: What of `film_of` is pixels; the rest names files and facts.
_PIXELS = ("png", "bits", "width", "height")


def pixels_of(film: Radiograph) -> dict[str, Any]:
    """Return a film for a page, without the name of its file and without its facts."""
    whole = film_of(film)
    return {name: whole[name] for name in _PIXELS}


def film_source(images: Any, *, upright: bool = False) -> FilmSource | None:
    """Return a function from source and id to the film; None where no images are known.

    Args:
        images: see the head of this module; None for no films.
        upright: whether files are turned as they say.

    Raises:
        InputError: it is none of these, or nothing says where the files are.
    """
    if images is None or callable(images):
        return images
    if isinstance(images, Mapping):
        return lambda _, case: opened(_of(images, case), upright=upright)
    if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
        raise InputError(
            "images is a folder; give the manifest whose paths lie in it (a file or a Manifest), "
            "or a mapping id -> path"
        )
    known = open_references(images)
    if known.root is None:
        raise InputError(
            "it is not known where the images are; give a Manifest that was loaded with root=, or "
            "the file of the manifest"
        )
    return lambda source, case: load_radiograph(_path(known, source, case), upright=upright)


def opened(found: Any, *, upright: bool = False) -> Radiograph:
    """Return a radiograph out of a radiograph, a phantom or the path of a file.

    Raises:
        InputError: it is none of these, or the file cannot be read.
    """
    if isinstance(found, Radiograph):
        return found
    if isinstance(getattr(found, "image", None), Radiograph):
        return found.image
    if isinstance(found, (str, os.PathLike)):
        return load_radiograph(found, upright=upright)
    raise InputError(
        f"images gave {type(found).__name__}; expected a radiograph, a phantom or a path"
    )


def _of(images: Mapping[Any, Any], case: str) -> Any:
    for key in (case, int(case) if case.isdecimal() else case):
        if key in images:
            return images[key]
    raise InputError("images has no entry for this case")


def _path(known: References, source: str, case: str) -> Any:
    frame = known.frame
    own = frame[frame["id"] == case]
    if len(own) > 1 and source:
        own = own[own["source"] == source]
    if len(own) != 1 or not own["path"].iloc[0]:
        raise InputError("the manifest of the images has no file for this case")
    return Root(known.root).image(own["path"].iloc[0])
