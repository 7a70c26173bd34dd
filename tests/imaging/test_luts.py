"""Grey-scale transforms against values worked out by hand from DICOM PS3.3."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from workbench.imaging.luts import apply_lut, apply_modality, first_number, to_grey_scale, window


def dataset(**tags):
    ds = Dataset()
    ds.BitsStored, ds.PixelRepresentation = 12, 0
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def lut(first, depth, table, *, raw=None):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table), first, depth])
    if raw is None:
        item.add_new("LUTData", "US", list(table))
    else:
        item.add_new("LUTData", "OW", raw)
    return item


def scaled(values, ds):
    values = np.atleast_2d(np.asarray(values))
    return to_grey_scale(values, ds, np.ones(values.shape, bool))


def test_linear_window_by_hand():
    # PS3.3 C.11.2.1.2.1, centre 2048, width 4096: black at <= 0, white at > 4095
    got = window(np.array([-1, 0, 1, 2048, 4095, 4096]), 2048, 4096, "LINEAR")
    expected = [0, 0, 1 / 4095, 2048 / 4095, 1, 1]
    assert np.allclose(got, expected)


def test_linear_window_of_the_standards_examples():
    # c=0, w=100: below -49.5 black, above 49.5 white, (x + 0.5) / 99 + 0.5 between
    got = window(np.array([-60, -50, 0, 49, 50]), 0, 100, "LINEAR")
    assert np.allclose(got, [0, 0, 0.5 / 99 + 0.5, 1, 1])
    # c=0, w=1: a threshold at -0.5
    assert window(np.array([-1, 0]), 0, 1, "LINEAR").tolist() == [0, 1]


def test_exact_and_sigmoid_windows_by_hand():
    got = window(np.array([0, 25, 50, 75, 100]), 50, 50, "LINEAR_EXACT")
    assert np.allclose(got, [0, 0, 0.5, 1, 1])
    got = window(np.array([0, 50, 100, -1e6, 1e6]), 50, 100, "SIGMOID")
    assert np.allclose(got, [1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 0, 1])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2000, 3000), (40.5, 300), (0, 1.5)])
def test_windows_agree_with_pydicom(function, center, width):
    values = np.arange(4096)
    ds = dataset(WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    ds.PhotometricInterpretation = "MONOCHROME2"
    assert np.allclose(
        window(values, center, width, function), apply_windowing(values, ds) / 4095, atol=1e-6
    )


def test_the_first_of_several_windows_is_used():
    ds = dataset(WindowCenter=[100, 900], WindowWidth=[101, 10])
    got = scaled([0, 50, 150], ds)
    assert got.applied == "window 100 / 101 (LINEAR)" and got.problems == ()
    assert np.allclose(got.values, [[0, 0.005, 1]])


def test_rescale_comes_before_the_window():
    ds = dataset(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=0.5, WindowWidth=101)
    assert np.allclose(scaled([0, 50, 60, 100], ds).values, [[0, 0.5, 0.7, 1]])


def test_rescale_of_one_and_zero_changes_nothing():
    values = np.array([[1, 2]])
    assert apply_modality(values, dataset(RescaleSlope=1, RescaleIntercept=0))[0] is values


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_lut_by_hand(depth):
    white = 2**depth - 1
    table = [0, white // 3, white // 2, white]
    got = apply_lut(np.array([0, 9, 10, 11, 12, 13, 4000]), lut(10, depth, table), signed=False)[1]
    expected = np.array([table[i] for i in (0, 0, 0, 1, 2, 3, 3)]) / white
    assert np.allclose(got, expected, atol=1e-6)


def test_lut_may_begin_below_zero():
    item = lut(-2, 8, [10, 20, 30, 255])
    assert apply_lut(np.array([-9, -2, -1, 0, 1, 9]), item, signed=True)[0].tolist() == [
        10,
        10,
        20,
        30,
        255,
        255,
    ]
    item = lut(65534, 8, [10, 20, 30, 255])  # -2 as it is stored without a sign
    assert apply_lut(np.array([-2, 1]), item, signed=True)[0].tolist() == [10, 255]
    assert apply_lut(np.array([0, 65535]), item, signed=False)[0].tolist() == [10, 20]


def test_eight_bit_lut_of_twelve_bit_values_does_not_wrap():
    # an input of 300 lies beyond a table of 256 entries and gets the last one, not entry 44
    item = lut(0, 8, list(range(256)))
    assert apply_lut(np.array([300]), item, signed=False)[0].tolist() == [255]


@pytest.mark.parametrize("little", [True, False])
def test_lut_data_may_be_raw_words_or_bytes(little):
    words = np.array([5, 600, 4095], "<u2" if little else ">u2").tobytes()
    item = lut(0, 12, [0] * 3, raw=words)
    found = apply_lut(np.arange(3), item, signed=False, little=little)[0]
    assert found.tolist() == [5, 600, 4095]
    item = lut(0, 8, [0] * 4, raw=bytes([1, 2, 3, 255]))
    found = apply_lut(np.arange(4), item, signed=False, little=little)[0]
    assert found.tolist() == [1, 2, 3, 255]


def test_zero_entries_mean_65536():
    table = np.arange(65536, dtype="<u2")
    item = lut(0, 16, [0] * 3, raw=table.tobytes())
    item.LUTDescriptor = [0, 0, 16]
    assert apply_lut(np.array([65535]), item, signed=False)[0].tolist() == [65535]


def test_a_lut_that_uses_far_less_than_it_declares_is_not_shown_black():
    item = lut(0, 16, [0, 512, 1023])
    assert apply_lut(np.array([0, 1, 2]), item, signed=False)[1].tolist() == pytest.approx(
        [0, 512 / 1023, 1]
    )
    item = lut(0, 8, [0, 300, 1023])  # entries beyond the depth that it declares
    assert apply_lut(np.array([2]), item, signed=False)[1].tolist() == [1]


def test_modality_lut_comes_before_the_voi_lut():
    ds = dataset()
    ds.ModalityLUTSequence = [lut(0, 12, [0, 1000, 4000])]
    ds.VOILUTSequence = [lut(1000, 8, [0, 255])]
    got = scaled([0, 1, 2], ds)
    assert got.values.tolist() == [[0, 0, 1]] and got.applied == "VOI LUT"


def test_a_voi_lut_is_preferred_to_a_window():
    ds = dataset(WindowCenter=1, WindowWidth=2)
    ds.VOILUTSequence = [lut(0, 8, [255, 0])]
    assert scaled([0, 1], ds).values.tolist() == [[1, 0]]


def test_without_a_transform_eight_bits_keep_their_scale_and_more_are_spread():
    ds = dataset()
    got = scaled([100, 300, 500], ds)
    assert got.values.tolist() == [[0, 0.5, 1]] and got.applied == "smallest to largest value"
    ds.BitsStored = 8
    got = scaled([0, 51, 102], ds)
    assert np.allclose(got.values, [[0, 0.2, 0.4]]) and got.applied == "full range"


def test_padding_takes_no_part_in_the_range():
    values = np.array([[0, 100, 200]])
    valid = np.array([[False, True, True]])
    assert to_grey_scale(values, dataset(), valid).values.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("center", "width", "function", "reason"),
    [
        (100, 0, "LINEAR", "no width"),
        (100, -5, "LINEAR_EXACT", "no width"),
        (90000, 10, "LINEAR", "single grey"),
        (100, 10, "CUBIC", "not one of the standard's"),
    ],
)
def test_an_unusable_window_is_replaced_and_reported(center, width, function, reason):
    ds = dataset(WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    got = scaled([0, 2000, 4000], ds)
    assert reason in "; ".join(got.problems) and got.values.tolist() == [[0, 0.5, 1]]


def test_numbers_are_read_leniently():
    ds = dataset(WindowCenter=[10, 20])
    assert first_number(ds, "WindowCenter") == 10
    assert first_number(ds, "WindowWidth") is None
    ds.add_new("WindowWidth", "DS", "")
    assert first_number(ds, "WindowWidth") is None
