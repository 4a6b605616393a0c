"""Arrays with a checksum: what was written comes back, and no changed byte goes unnoticed."""

import binascii

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sicl_jax.data import sealed

arrays = npst.arrays(np.uint8, npst.array_shapes(max_dims=3, min_side=0, max_side=9))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("sealed") / "a.npy"


def write(path, array: np.ndarray) -> None:
    with path.open("w+b") as file:
        sealed.write_header(file, array.shape)
        file.write(array.tobytes())
        sealed.seal(file)


@given(array=arrays)
def test_reads_what_was_written(path, array):
    write(path, array)
    np.testing.assert_array_equal(sealed.read(path, array.shape), array)
    np.testing.assert_array_equal(np.load(path), array)
    *content, a, b, c, d = path.read_bytes()
    assert bytes([d, c, b, a]).hex() == f"{binascii.crc32(bytes(content)):08x}"


def test_more_than_one_block(path):
    array = np.random.default_rng(0).integers(0, 256, (3, 1_000_003), np.uint8)
    write(path, array)
    np.testing.assert_array_equal(sealed.read(path, array.shape), array)


@given(array=arrays, data=st.data())
def test_any_damage_is_noticed(path, array, data):
    write(path, array)
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1), label="place")
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255), label="bits")
    damages = (bytes(changed), whole[:place], whole + b"\0", whole[:-4])
    path.write_bytes(data.draw(st.sampled_from(damages), label="damaged"))
    with pytest.raises(ValueError):
        sealed.read(path, array.shape)


def test_another_shape(path):
    write(path, np.zeros((4, 2), np.uint8))
    with pytest.raises(ValueError, match=r"does not begin like an array of shape \(2, 4\)"):
        sealed.read(path, (2, 4))
