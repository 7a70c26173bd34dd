"""Texts from elsewhere: a CSV of texts with images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from workbench.errors import InputError
from workbench.hallucination import ground_table, ground_text


@pytest.fixture
def table(mini, tmp_path):
    """Two texts about one film on disk."""
    film = (255 * mini.case.image.pixels).round().astype(np.uint8)
    Image.fromarray(film).save(tmp_path / "film.png")
    path = tmp_path / "texts.csv"
    path.write_text(
        'id,image,text\na,film.png,"Left pleural effusion, moderate."\nb,film.png,No effusion.\n'
    )
    return path


def test_csv(mini, table):
    found = ground_table(mini.model, table, ablations=["mean image"])
    assert found.ids == ("a", "b") and len(found.groundings) == 2
    frame = found.to_frame()
    assert frame.columns[0] == "id"
    assert frame.code.tolist() == ["present", "absent"]
    assert frame.contribution[0] > frame.contribution[1]
    assert found.groundings[1].text == "No effusion."
    assert found.plot().get_xlabel() and "<table" in found._repr_html_()


def test_rows_equal_single_texts(golden, root):
    film = root / "tests" / "golden" / "images" / "grad_300x400.png"
    found = ground_table(golden.model, [(1, film, "Effusion."), (2, film, "No nodule.")])
    alone = ground_text(golden.model, film, "No nodule.")
    np.testing.assert_array_equal(found.groundings[1].contributions, alone.contributions)


def test_errors_repair(mini, table, tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        ground_table(mini.model, tmp_path / "nothing.csv")
    with pytest.raises(InputError, match=r"no column 'report'; it has: id, image, text"):
        ground_table(mini.model, table, text_column="report")
    with pytest.raises(InputError, match="no text to ground"):
        ground_table(mini.model, [])
    with pytest.raises(InputError, match=r"^x: the text is empty"):
        ground_table(mini.model, [("x", mini.case, "")])


def test_a_row_that_does_not_fit_is_refused_by_number(mini, tmp_path):
    (tmp_path / "t.csv").write_text("id,image,text\na,a.png,Heart, lungs\n")
    with pytest.raises(InputError, match=r"row 1 \(line 2\): 4 cells, but the header has 3"):
        ground_table(mini.model, tmp_path / "t.csv")
