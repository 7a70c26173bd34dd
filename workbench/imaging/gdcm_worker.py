"""Decode one JPEG lossless, JPEG-LS or 12-bit JPEG frame with gdcm, in a process of its own.

gdcm ends the process it runs in when it meets some damaged codestreams. `decode.py` therefore runs
this file as a program: a line of JSON and the codestream on standard input, raw samples on standard
output, and an exit status other than 0 where the data are unusable. It imports nothing but gdcm, so
that starting it costs about a tenth of a second.
"""

import json
import sys


def decode_frame(frame: bytes, shape: dict) -> bytes:
    """Decode one greyscale frame to unsigned little-endian samples in row order.

    `shape` has rows, columns, allocated (bits), stored (bits) and syntax (UID).
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((shape["columns"], shape["rows"], 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(shape["syntax"])
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    stored = shape["stored"]
    image.SetPixelFormat(gdcm.PixelFormat(1, shape["allocated"], stored, stored - 1, 0))
    return image.GetBuffer().encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    request = json.loads(sys.stdin.buffer.readline())
    sys.stdout.buffer.write(decode_frame(sys.stdin.buffer.read(), request))
