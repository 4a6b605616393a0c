"""Reading and writing PyTorch's files: real ones, damaged ones and hostile ones."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from sicl_jax.errors import UserError
from sicl_jax.weights.torch_files import load_state_dict, save_state_dict

DATA = Path(__file__).parent / "data"


@pytest.fixture
def expected():
    with np.load(DATA / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_reads_what_pytorch_wrote(name, expected):
    arrays = load_state_dict(DATA / name)
    assert list(arrays) == list(expected)
    for key, array in arrays.items():
        assert array.shape == expected[key].shape
        np.testing.assert_array_equal(array.astype(expected[key].dtype), expected[key])
    assert arrays["module.bfloat16"].dtype == ml_dtypes.bfloat16
    assert arrays["module.half"].dtype == np.float16
    assert np.shares_memory(arrays["module.float"], arrays["module.shared_part"])


def test_reads_a_bare_state_dict_and_newer_types():
    assert list(load_state_dict(DATA / "module_state.pth"))[:2] == ["0.weight", "0.bias"]
    newer = load_state_dict(DATA / "newer_types.pth")
    assert newer["a"].dtype == np.uint16
    np.testing.assert_array_equal(newer["a"], range(4))
    np.testing.assert_array_equal(newer["b"], np.ones(2, np.complex64))


@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_reads_past_arrays_of_numpy(tmp_path, core):
    """Those that a training script saves beside the weights, by NumPy before 2 and since."""
    with (
        zipfile.ZipFile(DATA / "figures.pth") as archive,
        zipfile.ZipFile(tmp_path / "figures.pth", "w") as other,
    ):
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content.replace(b"numpy._core.multiarray", core)
            other.writestr(entry, content)
    arrays = load_state_dict(tmp_path / "figures.pth")
    assert list(arrays)[:3] == ["0.weight", "0.bias", "1.weight"]
    assert arrays["0.weight"].shape == (3, 2)


def test_reads_a_torchscript_archive():
    with np.load(DATA / "script.npz") as file:
        expected = dict(file)
    arrays = load_state_dict(DATA / "script.pt")
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


def test_strips_a_prefix(expected):
    arrays = load_state_dict(DATA / "zip.pth", strip_prefix="module.")
    assert list(arrays) == [name.removeprefix("module.") for name in expected]


def test_two_names_that_become_one_are_refused(tmp_path):
    save_state_dict(tmp_path / "w.pth", {"a": np.ones(1), "module.a": np.ones(1)})
    with pytest.raises(UserError, match="with and without 'module.'"):
        load_state_dict(tmp_path / "w.pth", strip_prefix="module.")


def test_a_whole_module_is_refused_by_its_class():
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.container\.Sequential"):
        load_state_dict(DATA / "whole_module.pth")


ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array(5),
    "c": np.zeros((0, 4), np.float16),
    "d": np.array([1.5, -2], ml_dtypes.bfloat16),
    "e": np.arange(12.0).reshape(3, 4).T,
    "f": np.array([True, False]),
}


def test_round_trip(tmp_path):
    path = tmp_path / "w.pth"
    save_state_dict(path, {"state_dict": ARRAYS, "epoch": -3, "best": 0.5, "name": "π"})
    arrays = load_state_dict(path)
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


def test_equal_arrays_give_equal_bytes(tmp_path):
    for name in "ab":
        save_state_dict(tmp_path / name, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match="object"):
        save_state_dict(path, {"a": np.array([None])})
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


def test_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    arrays = {"module." + k: np.ascontiguousarray(v) for k, v in ARRAYS.items()}
    safetensors.numpy.save_file(arrays, path)
    loaded = load_state_dict(path, strip_prefix="module.")
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize("length", [0x80, 0x180, 0x4B50])
def test_safetensors_whose_length_looks_like_another_format(tmp_path, length):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    data = length.to_bytes(8, "little") + header + np.float32(2).tobytes()
    (tmp_path / "w").write_bytes(data)
    assert load_state_dict(tmp_path / "w")["a"] == 2


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="nowhere.pth: cannot be read: No such file"):
        load_state_dict(tmp_path / "nowhere.pth")


def refused(path, data):
    """The one line with which the bytes are refused."""
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        load_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"\x80\x02", b"hello world", b"PK\x05\x06" + b"\0" * 18]
)
def test_not_a_weight_file(tmp_path, data):
    refused(tmp_path / "w", data)


def with_pickle(data):
    """A zip archive as torch.save writes it, around the given pickle and a storage of 4 floats."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    return buffer.getvalue()


def tensor(offset=0, shape=(4,), strides=(1,), length=4, key="0"):
    """The pickle of {"x": tensor}."""

    def whole(value):
        return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def several(values):
        return b"(" + b"".join(map(whole, values)) + b"t"

    return (
        b"\x80\x02}" + text("x") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage")
        + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + whole(length) + b"tQ"
        + whole(offset) + several(shape) + several(strides) + b"\x89}tRs."
    )  # fmt: skip


def test_the_hand_made_tensor_is_read(tmp_path):
    (tmp_path / "w").write_bytes(with_pickle(tensor(offset=1, shape=(2, 1), strides=(2, 10**20))))
    np.testing.assert_array_equal(load_state_dict(tmp_path / "w")["x"], [[1], [3]])


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 10**18},
        {"shape": (5,)},
        {"shape": (2,), "strides": (4,)},
        {"shape": (2,), "strides": (-1,)},
        {"shape": (2**40,), "strides": (0,)},
        {"shape": (2**40, 2**40), "strides": (0, 0)},
        {"shape": (2, 2), "strides": (1,)},
        {"shape": (1,) * 40, "strides": (1,) * 40},
        {"length": 2**40},
        {"length": 5},
        {"key": "1"},
        {"key": "../data.pkl"},
    ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path, change):
    refused(tmp_path / "w", with_pickle(tensor(**change)))


class Call:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {}",), "system"),
        (eval, ("open({!r}, 'w')",), "builtins.eval"),
        (Path, ("{}",), "pathlib.Path"),
        (bytearray, (10**12,), "builtins.bytearray"),
    ],
)
def test_hostile_globals_are_named_and_never_called(tmp_path, protocol, function, arguments, name):
    trace = tmp_path / "trace"
    arguments = [a.format(trace) if isinstance(a, str) else a for a in arguments]
    data = pickle.dumps({"x": Call(function, *arguments)}, protocol)
    message = refused(tmp_path / "zip", with_pickle(data))
    assert name.replace("builtins", "") in message
    if protocol >= 2:
        refused(tmp_path / "bare", data)
    assert not trace.exists()


ORDERED_DICT = b"ccollections\nOrderedDict\n"
HOSTILE = {
    "memo index of 4 billion": b"\x80\x02}r\xff\xff\xff\xff.",
    "text of 2^63 bytes": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "number of 2 billion bytes": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "deep key": b"\x80\x02}" + b"(" * 100_000 + b"t" * 100_000 + b"Ns.",
    "list in itself": b"\x80\x02]q\x00" + b"h\x00a" * 10_000 + b".",
    "copies of a long list": b"\x80\x02](%beq\x00%b."
    % (b"NN\x86" * 4000, (ORDERED_DICT + b"h\x00\x85R") * 4000),
    "name with control codes": b"\x80\x02}X\x08\x00\x00\x00a\nb\x1b[2J\x00K\x01s.",
    "call without arguments": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "empty global": b"\x80\x02c\n\n.",
    "no tensors": b"\x80\x02}Nb.",
    "a script's module without tensors": b"\x80\x02c__torch__.a\nB\n)\x81}b.",
    "a module in itself": b"\x80\x02c__torch__.a\nB\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb.",
    "a call of a script's class": b"\x80\x02c__torch__.a\nB\n)R.",
    "an object of another class": b"\x80\x02ctorch\nSize\n)\x81.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles(tmp_path, kind):
    refused(tmp_path / "zip", with_pickle(HOSTILE[kind]))
    refused(tmp_path / "bare", HOSTILE[kind])


def test_compressed_entries_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor(length=2**24, shape=(2**24,)))
        archive.writestr("archive/data/0", bytes(2**26))
    assert "torch.save does not write" in refused(tmp_path / "bomb", buffer.getvalue())


def test_a_flipped_bit_in_the_numbers_is_noticed(tmp_path):
    data = bytearray((DATA / "zip.pth").read_bytes())
    with zipfile.ZipFile(DATA / "zip.pth") as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
    data[entry.header_offset + 130] ^= 1  # Behind the header and its padding.
    assert "CRC" in refused(tmp_path / "w", bytes(data))


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_truncated_files(tmp_path, name):
    data = (DATA / name).read_bytes()
    for length in range(0, len(data) - 1, 97):
        refused(tmp_path / "w", data[:length])


def test_truncated_safetensors(tmp_path):
    data = safetensors.numpy.save({"a": np.arange(9.0)})
    for length in range(0, len(data), 7):
        refused(tmp_path / "w", data[:length])


SEEDS = [
    (DATA / name).read_bytes() for name in ("zip.pth", "legacy.pth", "newer_types.pth", "script.pt")
]
SEEDS += [
    with_pickle(tensor()),
    safetensors.numpy.save({"a": np.arange(3.0), "b": np.ones((2, 2))}),
]
CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=9), st.integers(0, 9)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=600, deadline=None)
@given(seed=st.sampled_from(SEEDS), changes=CHANGES)
def test_mutated_files_give_arrays_or_one_line(tmp_path_factory, seed, changes):
    data = bytearray(seed)
    for place, put, removed in changes:
        start = int(place * len(data))
        data[start : start + removed] = put
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(data)
    try:
        arrays = load_state_dict(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= 20 * len(data)


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=60), seed=st.booleans())
def test_arbitrary_pickles_give_one_line(tmp_path_factory, data, seed):
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    path.write_bytes(with_pickle((tensor()[:-1] if seed else b"\x80\x02") + data))
    try:
        load_state_dict(path)
    except UserError as error:
        assert "\n" not in str(error)
