# SPDX-License-Identifier: Apache-2.0
"""OpenEXR pictures (linear light in floating point), decoded and encoded by FFmpeg.

OpenCV's wheels have the format disabled, and imageio has no plugin for it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import IO

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32
from PIL import Image, ImageFile

from img3d_pictures.encodings import srgb_of_light

FORMAT = "EXR"
MAGIC = b"\x76\x2f\x31\x01"
MAX_HEADER = 1 << 20
"""Largest header in bytes. Headers have a few hundred, or thousands with a preview image."""
DWA = (8, 9)
"""Codes of the compressions that FFmpeg 8 decodes to zeros without an error."""
FLOATS = {"f16le": "<f2", "f32le": "<f4"}
LAYOUTS = {
    **{f"gray{suffix}": (dtype, (0,)) for suffix, dtype in FLOATS.items()},
    **{f"gbrp{suffix}": (dtype, (2, 0, 1)) for suffix, dtype in FLOATS.items()},
    **{f"gbrap{suffix}": (dtype, (2, 0, 1, 3)) for suffix, dtype in FLOATS.items()},
}
"""For each of FFmpeg's pixel formats: the type of the values, and the planes of red, green, blue and alpha."""


def read_exr(contents: bytes) -> npt.NDArray[np.float32]:
    """Decodes an OpenEXR file.

    Returns:
        Linear values: `[H, W, 1]` if the file has one channel (depth), else `[H, W, 3]`, or `[H, W, 4]` with alpha.

    Raises:
        ValueError: It is damaged, or of a kind that FFmpeg does not decode (integers, DWA compression, deep data).
    """
    import av

    exr_size(io.BytesIO(contents))
    try:
        with av.open(io.BytesIO(contents), "r", format="exr_pipe") as container:
            frame = next(container.decode(video=0))
    except (av.FFmpegError, StopIteration, ValueError) as error:
        raise ValueError(f"an OpenEXR file that cannot be decoded: {error or type(error).__name__}") from error
    layout = LAYOUTS.get(frame.format.name)
    if layout is None:
        raise ValueError(f"an OpenEXR file whose values are not floating point ({frame.format.name})")
    dtype, planes = layout
    channels = [
        np.frombuffer(bytes(frame.planes[i]), dtype).reshape(frame.height, -1)[:, : frame.width] for i in planes
    ]
    return np.stack(channels, axis=-1).astype(np.float32)


def exr_bytes(values: Float32[np.ndarray, "H W *C"]) -> bytes:
    """Encodes an OpenEXR file with 32-bit floating point and ZIP compression.

    Args:
        values: Depth `[H, W]`, which becomes the channel Z; or `[H, W, 3]`, which become R, G and B.
    """
    import av

    is_depth = values.ndim == 2
    kind = "grayf32le" if is_depth else "gbrpf32le"
    encoder = av.CodecContext.create("exr", "w")
    encoder.height, encoder.width = values.shape[:2]
    encoder.pix_fmt = kind
    encoder.time_base = Fraction(1)
    encoder.sample_aspect_ratio = Fraction(1)  # the format requires pixelAspectRatio
    encoder.options = {"compression": "zip16", "format": "float"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format=kind)
    contents = bytearray(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
    if is_depth:  # FFmpeg calls a single channel Y
        (at,) = (start for name, start, _ in header_attributes(contents) if name == "channels")
        contents[at : at + 1] = b"Z"
    return bytes(contents)


def exr_size(file: IO[bytes]) -> tuple[int, int]:
    """Width and height of an OpenEXR file's display window, from its header.

    Raises:
        ValueError: The header is damaged, has no display window, or names a compression that FFmpeg cannot decode.
    """
    header = file.read(MAX_HEADER)
    if header[:4] != MAGIC:
        raise ValueError("not an OpenEXR file")
    size = None
    for name, start, length in header_attributes(header):
        if name == "compression" and length == 1 and header[start] in DWA:
            raise ValueError(
                "an OpenEXR file with DWA compression, which is not supported; save it with ZIP compression"
            )
        if name == "displayWindow" and length == 16:
            left, top, right, bottom = struct.unpack_from("<4i", header, start)
            size = (right - left + 1, bottom - top + 1)
    if size is None or min(size) < 1:
        raise ValueError("an OpenEXR file without a display window")
    return size


def header_attributes(header: bytes | bytearray) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size in bytes of the value of each attribute in an OpenEXR header.

    Args:
        header: The beginning of the file.

    Raises:
        ValueError: The header is cut off or damaged.
    """
    position = 8  # behind magic number and version
    try:
        while header[position]:
            name_end = header.index(0, position)
            size_at = header.index(0, name_end + 1) + 1  # behind the name of the type
            (length,) = struct.unpack_from("<i", header, size_at)
            start = size_at + 4
            if not 0 <= length <= len(header) - start:
                raise ValueError(length)
            yield header[position:name_end].decode("latin-1"), start, length
            position = start + length
    except (IndexError, ValueError, struct.error) as error:
        raise ValueError("an OpenEXR file whose header is cut off or damaged") from error


class ExrImageFile(ImageFile.ImageFile):
    """An OpenEXR picture as a Pillow image: 8-bit sRGB, light above white clipped, with alpha if the file has it."""

    format = FORMAT
    format_description = "OpenEXR"

    def _open(self) -> None:
        assert self.fp is not None  # Pillow's base class opens it
        self._size = exr_size(self.fp)
        self._mode = "RGB"
        self.fp.seek(0)

    def load(self) -> Image.core.PixelAccess | None:
        """Decodes the pixels, once."""
        if self._im is None:
            assert self.fp is not None
            self.fp.seek(0)
            values = read_exr(self.fp.read())
            if values.shape[1::-1] != self.size:
                raise ValueError("an OpenEXR file whose data window is not its display window")
            if values.shape[2] == 1:
                raise ValueError("an OpenEXR file with one channel, hence not a photo (depth?)")
            pixels = exr_pixels(values)
            decoded = Image.fromarray(pixels)
            self._mode = decoded.mode
            self.im = decoded.im
        return super().load()


def exr_pixels(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """8-bit sRGB `[H, W, 3 or 4]`, alpha not premultiplied, of linear values of that shape, premultiplied as in EXR."""
    if values.shape[2] == 3:
        return srgb_of_light(values)
    alpha = np.nan_to_num(values[..., 3:]).clip(0, 1)
    rgb = srgb_of_light(values[..., :3] / np.maximum(alpha, 1e-6))
    return np.concatenate([rgb, np.round(255 * alpha).astype(np.uint8)], axis=2)


def register_exr() -> None:
    """Registers the format with Pillow."""
    Image.register_open(FORMAT, ExrImageFile, lambda prefix: prefix[:4] == MAGIC)
    Image.register_extension(FORMAT, ".exr")
