"""CIFAR-10's loader on files made here (no photograph is in this repository) and, with FEWLABELS_DATA, on real ones."""

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused, same
from PIL import Image
from sklearn.datasets import load_digits

from fewlabels.data import cifar10, cifar10_files, prepared

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
LENGTH = 3  # images in a batch made here
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6 * LENGTH, 3072)).astype(np.uint8)
LABELS = [*range(10), 9, 0, 3, 3, 7, 1, 8, 2]
PHOTOS = RNG.integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)
MEMBERS = [f"{part}/{c}/{i:04}" for c in cifar10.CLASSES for part, i in (("train", 0), ("train", 7), ("test", 0))]
ALL = [f"train/{i:05}" for i in range(50_000)] + [f"test/{i:05}" for i in range(10_000)]
# Who comes first with seed 0; results would not be comparable if it changed.
PINNED = ("train/25461", "train/05892", "train/10377", "train/28814")


# ---- files as others make them ----


def python2(data, labels, kind=b"u1"):
    """A batch as Python 2 and numpy 1 wrote it, protocol 2: str is bytes. Written out here, opcode for opcode."""

    def string(value):
        return b"U" + bytes([len(value)]) + value

    def integer(value):
        return b"J" + struct.pack("<i", value)

    shape = b"".join(map(integer, data.shape)) + b"\x86"
    dtype = b"cnumpy\ndtype\nq\x05" + string(kind) + b"K\x00K\x01\x87q\x06Rq\x07(K\x03U\x01|NNN"
    dtype += integer(-1) * 2 + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87R(K\x01" + shape
    array += dtype + b"\x89T" + struct.pack("<i", data.nbytes) + data.tobytes() + b"tb"
    dictionary = string(b"batch_label") + string(b"training batch") + string(b"labels") + b"]q\x02("
    dictionary += b"".join(map(integer, labels)) + b"e" + string(b"data") + array
    return b"\x80\x02}q\x01(" + dictionary + b"u."


def write_official(root):
    folder = root / "cifar10/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for k, name in enumerate(BATCHES):
        part = slice(k * LENGTH, (k + 1) * LENGTH)
        (folder / name).write_bytes(python2(PIXELS[part], LABELS[part]))
    (folder / "batches.meta").write_bytes(b"not read")
    return folder


def write_tar(path, members, monkeypatch):
    """`{name: bytes}` as the official archive, whose checksum is the official one from now on."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(cifar10_files, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())


def write_images(root, suffix):
    """train/airplane/0000.jpg and so on: two training images and a test image of each class."""
    for name, pixels in zip(MEMBERS, PHOTOS):
        path = root / f"cifar10/{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def write_zip(root):
    """Puts the folders of `root` into a zip in their place."""
    path = root / "cifar10/copy.zip"
    files = sorted(filter(Path.is_file, root.glob("cifar10/t*/**/*")), reverse=True)  # the order must not matter
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("train")
        for file in files:
            archive.write(file, file.relative_to(root / "cifar10"))
    for part in ("train", "test"):
        shutil.rmtree(root / "cifar10" / part)
    return path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(cifar10_files, "BATCH", LENGTH)
    monkeypatch.setattr(cifar10, "ALL", 6 * LENGTH)
    monkeypatch.setattr(cifar10, "PAPER", {"labels": 4, "unlabelled": 8, "validation": 3})


@pytest.fixture
def official(small, tmp_path):
    """The data root of six official batches of three images."""
    write_official(tmp_path)
    return tmp_path


@pytest.fixture
def archive(official, monkeypatch):
    """The same as the official archive; the members in another order."""
    folder = official / "cifar10/cifar-10-batches-py"
    members = {f"{folder.name}/{path.name}": path.read_bytes() for path in sorted(folder.iterdir(), reverse=True)}
    write_tar(official / "cifar10/cifar-10-python.tar.gz", members, monkeypatch)
    shutil.rmtree(folder)
    return official


@pytest.fixture
def copy(tmp_path):
    """The data root of a copy of 30 JPEG files."""
    write_images(tmp_path, "jpg")
    return tmp_path


@pytest.fixture
def png(tmp_path):
    write_images(tmp_path, "png")
    return tmp_path


@pytest.fixture
def zipped(copy):
    write_zip(copy)
    return copy


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- what is loaded: the official files ----


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy.core is numpy._core now
def test_the_batches_made_here_are_pickles_of_numpy_arrays():
    batch = pickle.loads(python2(PIXELS[:3], LABELS[:3]), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], PIXELS[:3])
    assert (batch[b"data"].dtype, batch[b"labels"]) == (np.uint8, [0, 1, 2])


@pytest.mark.parametrize("layout", ["official", "archive"])
def test_official(request, layout):
    root = request.getfixturevalue(layout)
    before = files_below(root)
    cohort = cifar10.load(root)
    assert files_below(root) == before  # nothing is extracted
    assert (cohort.images.shape, cohort.images.dtype) == ((18, 3, 32, 32), torch.float32)
    assert (cohort.labels.tolist(), cohort.labels.dtype) == (LABELS, torch.int64)
    assert (
        cohort.ids
        == cohort.groups
        == tuple([f"train/{i:05}" for i in range(15)] + [f"test/0000{i}" for i in (0, 1, 2)])
    )
    assert cohort.classes == tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    assert cohort.spacing_mm == (1.0, 1.0)
    assert cohort.meta["data"] == "cifar10"
    assert "official" in cohort.meta["source"]
    assert "cite Krizhevsky 2009" in cohort.meta["source"]
    expected = np.empty((18, 3, 32, 32), np.float32)
    for i, row in enumerate(PIXELS.astype(np.float32)):
        for channel in range(3):
            for r in range(32):
                expected[i, channel, r] = row[channel * 1024 + r * 32 : channel * 1024 + (r + 1) * 32] / np.float32(255)
    np.testing.assert_array_equal(cohort.images, expected)


def test_folder_and_archive_are_one(official, monkeypatch):
    folder = official / "cifar10/cifar-10-batches-py"
    from_folder = cifar10.load(official)
    members = {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    write_tar(official / "cifar10/cifar-10-python.tar.gz", members, monkeypatch)
    shutil.rmtree(folder)
    assert cifar10.load(official).fingerprint() == from_folder.fingerprint()


@pytest.mark.parametrize("layout", ["official", "archive"])
def test_official_files_win_over_a_copy(request, layout):
    root = request.getfixturevalue(layout)
    write_images(root, "png")
    write_zip(root)
    write_images(root, "jpg")
    assert cifar10.load(root).meta["data"] == "cifar10"


@pytest.mark.parametrize("protocol", [3, 4])
def test_batches_pickled_again(official, protocol):
    """By Python 3 and numpy 2, which calls its modules otherwise, and in Fortran's order."""
    before = cifar10.load(official)
    batch = {b"labels": LABELS[3:6], b"data": np.asfortranarray(PIXELS[3:6])}
    path = official / "cifar10/cifar-10-batches-py/data_batch_2"
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    assert same(cifar10.load(official), before)


# ---- what is loaded: copies ----


@pytest.mark.parametrize(("suffix", "data"), [("jpg", "cifar10-jpeg"), ("png", "cifar10-png")])
@pytest.mark.parametrize("as_zip", [False, True])
def test_copies(tmp_path, suffix, data, as_zip):
    write_images(tmp_path, suffix)
    decoded = {name: np.asarray(Image.open(tmp_path / f"cifar10/{name}.{suffix}")) for name in MEMBERS}
    if as_zip:
        write_zip(tmp_path)
    before = files_below(tmp_path)
    cohort = cifar10.load(tmp_path)
    assert files_below(tmp_path) == before  # nothing is extracted
    assert cohort.ids == cohort.groups == tuple(sorted(MEMBERS))
    assert cohort.labels.tolist() == [cifar10.CLASSES.index(name.split("/")[1]) for name in sorted(MEMBERS)]
    assert (cohort.images.dtype, cohort.labels.dtype) == (torch.float32, torch.int64)
    assert cohort.meta["data"] == data
    for text in ("not the official files", "re-encoded", "order", "20 of the 50,000", "cite Krizhevsky 2009"):
        assert text in cohort.meta["source"]
    for name, image in zip(cohort.ids, cohort.images, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0), decoded[name].astype(np.float32) / np.float32(255))
        if suffix == "png":
            np.testing.assert_array_equal(decoded[name], PHOTOS[MEMBERS.index(name)])


def test_other_files_are_not_images(copy):
    for name in ("README.md", "labels.txt", "train/airplane/.DS_Store", "test/.hidden/x.jpg", "._copy"):
        path = copy / "cifar10" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert len(cifar10.load(copy)) == 30
    write_zip(copy)
    assert len(cifar10.load(copy)) == 30


def test_same_files_same_fingerprint(copy):
    assert cifar10.load(copy).fingerprint() == cifar10.load(copy).fingerprint()


def test_check(copy, request):
    lines = cifar10.check(copy).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("cifar10-jpeg: ")
    assert lines[1].startswith("30 of 60,000 images; the paper's split cannot be made: split: expected 50,000 images")
    assert "; train: 2 airplane, 2 automobile" in lines[1]
    assert "test: 1 airplane, 1 automobile" in lines[1]
    changed = copy / "cifar10/test/dog/0000.jpg"
    changed.write_bytes(changed.read_bytes() + b"x")  # one byte that is no pixel
    assert cifar10.check(copy).splitlines()[2] != lines[2]
    lines = cifar10.check(request.getfixturevalue("official")).splitlines()
    assert lines[0].startswith("cifar10: ")
    assert lines[1].startswith("18 of 18 images; train: ")


# ---- digits ----


def test_digits():
    cohort, source = cifar10.digits(), load_digits()
    assert (cohort.images.shape, cohort.images.dtype) == ((1797, 3, 32, 32), torch.float32)
    assert (cohort.labels.tolist(), cohort.labels.dtype) == (source.target.tolist(), torch.int64)
    assert (float(cohort.images.min()), float(cohort.images.max())) == (0, 1)
    assert (cohort.ids[0], cohort.ids[-1]) == ("digit/0000", "digit/1796")
    assert cohort.groups == cohort.ids
    assert cohort.classes == tuple("0123456789")
    assert cohort.meta["data"] == "digits"
    for text in ("scikit-learn", "UCI", "Optical Recognition of Handwritten Digits", "BSD", "CC BY 4.0"):
        assert text in cohort.meta["source"]
    assert cohort.images[:, 0].equal(cohort.images[:, 1])
    assert cohort.images[:, 0].equal(cohort.images[:, 2])


def test_digits_are_interpolated_between_pixel_centres():
    """By numpy, one axis after the other: pixel i of 32 lies at (i + 1/2) / 4 - 1/2 of 8; outside, the edge goes on."""
    images, at = cifar10.digits().images[:200, 0].numpy(), (np.arange(32) + 0.5) / 4 - 0.5
    for image, pixels in zip(images, load_digits().images[:200] / 16):
        rows = np.array([np.interp(at, range(8), column) for column in pixels.T]).T
        np.testing.assert_allclose(image, [np.interp(at, range(8), row) for row in rows], atol=1e-6)


def test_digits_keep_their_values_where_neighbours_agree():
    """The four pixels around a centre differ from it by at most what the neighbours do, an eighth along each axis."""
    pixels = np.pad(load_digits().images / 16, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(1, 2))
    span = windows.max((3, 4)) - windows.min((3, 4))
    centres = cifar10.digits().images[:, 0].reshape(-1, 8, 4, 8, 4)[:, :, 1:3, :, 1:3].mean((2, 4))
    assert np.all(np.abs(centres.numpy() - pixels[:, 1:-1, 1:-1]) <= span / 4 + 1e-6)
    assert (span == 0).sum() > 1000  # background: there the value itself


# ---- bad input ----


def test_no_root():
    sources = ("FEWLABELS_DATA", "https://www.cs.toronto.edu/~kriz/cifar.html", "python -m fewlabels download cifar10")
    for call in (cifar10.load, cifar10.check, lambda root: cifar10.prepare(root, "out.npz")):
        refused(lambda call=call: call(None), *sources, "found nothing")
    refused(lambda: cifar10.download(None), "FEWLABELS_DATA", "found nothing")


def test_missing_folder_says_where_to_get_it(tmp_path):
    texts = ("https://www.cs.toronto.edu/~kriz/cifar.html", "cifar-10-python.tar.gz", "train/CLASS/*.jpg")
    refused(lambda: cifar10.load(tmp_path), f"{tmp_path / 'cifar10'}: ", *texts, "no such folder")
    (tmp_path / "cifar10").mkdir()
    refused(lambda: cifar10.load(tmp_path), f"{tmp_path / 'cifar10'}: ", *texts, "found neither")


def test_official_images_of_one_value(official):
    """A batch that was filled up where its download stopped: a pickle all the same."""
    path = official / "cifar10/cifar-10-batches-py/data_batch_2"
    pixels = PIXELS[3:6].copy()
    pixels[1:] = 0
    path.write_bytes(python2(pixels, LABELS[3:6]))
    refused(lambda: cifar10.load(official), f"{path}: expected photographs, found nothing but 0 in image 1 of 3")
    pixels[1:] = PIXELS[4:6]
    pixels[2] = 9
    path.write_bytes(python2(pixels, LABELS[3:6]))
    refused(lambda: cifar10.load(official), f"{path}: expected photographs, found nothing but 9 in image 2 of 3")


@pytest.mark.parametrize("form", ["copy", "png"])
def test_an_image_of_one_value_in_a_copy(request, form):
    root = request.getfixturevalue(form)
    path = next((root / "cifar10/train/dog").iterdir())
    Image.new("RGB", (32, 32), (7, 7, 7)).save(path)
    refused(lambda: cifar10.check(root), f"{path}: expected a photograph, found nothing but 7")


def test_a_jpeg_file_filled_up_with_zeros(copy):
    path = next((copy / "cifar10/train/dog").iterdir())
    content = path.read_bytes()
    path.write_bytes(content + bytes(9))  # behind the image
    cifar10.load(copy)
    path.write_bytes(content[:400] + bytes(len(content) - 400))
    expected = f"{path}: expected a JPEG file to its end, found nothing but 0 behind the first "
    refused(lambda: cifar10.load(copy), expected)


def test_an_archive_of_macos(zipped):
    before = cifar10.load(zipped)
    with zipfile.ZipFile(zipped / "cifar10/copy.zip", "a") as file:
        for name in ("__MACOSX/train/dog/._0000.jpg", "train/dog/._0000.jpg", "train/.ipynb_checkpoints/0000.jpg"):
            file.writestr(name, b"\0\5\x16\7")
    (zipped / "cifar10/._copy.zip").write_bytes(b"\0\5\x16\7")
    assert same(cifar10.load(zipped), before)


def test_two_zips(zipped):
    shutil.copy(zipped / "cifar10/copy.zip", zipped / "cifar10/another.zip")
    refused(lambda: cifar10.load(zipped), f"{zipped / 'cifar10'}: ", "one .zip", "found another.zip, copy.zip")


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_missing_batch(official, name, monkeypatch):
    folder = official / "cifar10/cifar-10-batches-py"
    (folder / name).unlink()
    refused(lambda: cifar10.load(official), f"{folder / name}: expected a batch", "No such file")
    members = {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    path = official / "cifar10/cifar-10-python.tar.gz"
    write_tar(path, members, monkeypatch)
    shutil.rmtree(folder)
    refused(lambda: cifar10.load(official), f"{path}/{folder.name}/{name}: expected a batch", "not found")


def test_wrong_checksum(archive, monkeypatch):
    path = archive / "cifar10/cifar-10-python.tar.gz"
    right = cifar10_files.SHA256
    path.write_bytes(path.read_bytes() + b"\0")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    for module, name in ((gzip, "decompress"), (tarfile, "open"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, None)  # not even opened
    refused(lambda: cifar10.load(archive), f"{path}: ", f"SHA-256 {right}", f"found {found}")


def test_the_checksum_is_that_of_the_official_archive():
    assert cifar10_files.SHA256 == "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    assert cifar10_files.URL == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


@pytest.mark.parametrize("keep", [0, 100, 1000, -1])
def test_truncated_archive(archive, keep, monkeypatch):
    """With the right checksum, as if the official file were like this."""
    path = archive / "cifar10/cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[:keep])
    monkeypatch.setattr(cifar10_files, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    refused(lambda: cifar10.load(archive), f"{path}: expected a .tar.gz archive")


@pytest.mark.parametrize("keep", [0, 1, 5, 100, 5000, -1])
def test_truncated_pickle(official, keep):
    path = official / "cifar10/cifar-10-batches-py/data_batch_3"
    path.write_bytes(path.read_bytes()[:keep])
    refused(lambda: cifar10.load(official), f"{path}: expected a batch of CIFAR-10 for Python")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"hello\nthere", ""),
        (pickle.dumps([1, 2]), "found [1, 2]"),
        (pickle.dumps({b"data": PIXELS[:3]}), "b'data' and b'labels'"),
        (pickle.dumps({"data": PIXELS[:3], "labels": [1, 2, 3]}), "b'data' and b'labels'"),  # keys are no bytes
        (pickle.dumps({b"data": [1], b"labels": [1, 2, 3]}), ""),
        (pickle.dumps({b"data": PIXELS[:3], b"labels": None}), ""),
        (python2(PIXELS[:2], [1, 2, 3]), "type u1, shape (3, 3072), found b'u1', (2, 3072)"),
        (python2(PIXELS[:3, :3071], [1, 2, 3]), "found b'u1', (3, 3071)"),
        (python2(PIXELS[:3], [1, 2, 3], kind=b"i1"), "found b'i1', (3, 3072)"),
        (
            python2(PIXELS[:3], [1, 2, 3], kind=b"\n1").replace(b"U\x02\n1", b"X\x02\0\0\0\n1"),
            "found '\\n1', (3, 3072)",
        ),
        (python2(PIXELS[:3], [1, 2]), "expected 3 labels of 0 to 9, found 2"),
        (python2(PIXELS[:3], [1, 10, 3]), "expected 3 labels of 0 to 9, found 3, one of them 10"),
        (python2(PIXELS[:3], [1, -1, 3]), "one of them -1"),
        (pickle.dumps({b"data": PIXELS[:3], b"labels": [1, 2.0, 3]}, protocol=4), "one of them 2.0"),
        (pickle.dumps({b"data": PIXELS[:3], b"labels": [1, "\n" * 99, 3]}, protocol=4), "one of them '\\n"),
        (python2(PIXELS[:3], [1, 2, 3]).replace(b"T\x00\x24\x00\x00", b"T\xff\x23\x00\x00"), ""),  # a byte less
    ],
)
def test_foreign_pickles(official, content, found):
    path = official / "cifar10/cifar-10-batches-py/test_batch"
    path.write_bytes(content)
    refused(lambda: cifar10.load(official), f"{path}: expected", found)


class Evil:
    """Pickled, it is a command: touch `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


class Nested(Evil):
    def __reduce__(self):
        return list, ([Evil(self.path)],)


def evil_pickles(path):
    """Pickles that make a file `path` when read by anyone else, and the name by which each is refused."""
    touch = f"touch '{path}'".encode()
    yield b"\x80\x02cos\nsystem\nU" + bytes([len(touch)]) + touch + b"\x85R.", "os.system"
    yield pickle.dumps(Evil(path), protocol=2), f"{os.system.__module__}.system"
    yield pickle.dumps(Evil(path), protocol=4), f"{os.system.__module__}.system"
    yield pickle.dumps({b"labels": [Evil(path)], b"data": PIXELS[:3]}, protocol=4), ".system"
    yield pickle.dumps({b"labels": [1, 2, 3], b"data": PIXELS[:3], b"more": Nested(path)}, protocol=4), "builtins.list"
    code = f"open({str(path)!r}, 'w')".encode()
    yield b"\x80\x02cbuiltins\neval\nX" + struct.pack("<i", len(code)) + code + b"\x85R.", "builtins.eval"


@pytest.mark.parametrize("k", range(6))
def test_malicious_pickles(official, k):
    sentinel = official / "sentinel"
    content, name = list(evil_pickles(sentinel))[k]
    pickle.loads(content, encoding="bytes")
    assert sentinel.exists()  # it is what it says
    sentinel.unlink()
    path = official / "cifar10/cifar-10-batches-py/data_batch_1"
    path.write_bytes(content)
    for call in (cifar10.load, cifar10.check, lambda root: cifar10.prepare(root, official / "out.npz")):
        refused(lambda call=call: call(official), f"{path}: ", name, "refused")
    assert not sentinel.exists()
    assert not (official / "out.npz").exists()


def test_malicious_pickle_in_an_archive(official, monkeypatch):
    sentinel = official / "sentinel"
    folder = official / "cifar10/cifar-10-batches-py"
    members = {f"{folder.name}/{name}": pickle.dumps(Evil(sentinel), protocol=2) for name in BATCHES}
    path = official / "cifar10/cifar-10-python.tar.gz"
    write_tar(path, members, monkeypatch)
    shutil.rmtree(folder)
    refused(lambda: cifar10.load(official), f"{path}/{folder.name}/data_batch_1: ", ".system", "refused")
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x80\x02U\x01aQ.", "persistent"),
        (b"\x80\x02\x82\x01.", "extension"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x02cnumpy\nndarray.tofile\n.", "numpy.ndarray.tofile"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "_reconstruct.__globals__"),
        (b"\x80\x02c_codecs\nencode\n.", "_codecs.encode"),
        (b"\x80\x02ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
    ],
)
def test_other_names_in_pickles(official, content, found):
    path = official / "cifar10/cifar-10-batches-py/data_batch_1"
    path.write_bytes(content)
    refused(lambda: cifar10.load(official), f"{path}: ", found)


def test_arrays_of_addresses(official):
    """Python objects at an address of the file's choice: numpy itself would follow it, and crash."""
    path = official / "cifar10/cifar-10-batches-py/data_batch_1"
    addresses = np.full((3, 384), int.from_bytes(b"AAAAAAAA")).view(np.uint8)
    path.write_bytes(python2(addresses, [1, 2, 3], kind=b"O8"))
    refused(lambda: cifar10.load(official), f"{path}: ", "found b'O8'")


@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "train/../../out.jpg", "..\\out.jpg", "C:/out.jpg"])
def test_members_that_would_leave_the_folder(tmp_path, copy, small, name, monkeypatch):
    path = write_zip(copy)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(zipfile.ZipInfo(name), b"out")
    refused(lambda: cifar10.load(copy), f"{path}: ", "stay inside", repr(name))
    path.unlink()
    path = tmp_path / "cifar10/cifar-10-python.tar.gz"
    write_tar(path, {name: b"out"}, monkeypatch)
    refused(lambda: cifar10.load(tmp_path), f"{path}: ", "stay inside", repr(name))
    assert not [name for name in files_below(tmp_path.parent) if Path(name).name.endswith("out.jpg")]


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(("mode", "size"), [("RGB", (32, 31)), ("RGB", (33, 32)), ("L", (32, 32)), ("CMYK", (32, 32))])
def test_other_images(copy, as_zip, mode, size):
    Image.new(mode, size).save(copy / "cifar10/train/frog/0007.jpg")
    base = write_zip(copy) if as_zip else copy / "cifar10"
    found = f"found mode {mode}, {size[0]} x {size[1]}"
    refused(lambda: cifar10.load(copy), f"{base}/train/frog/0007.jpg: expected mode RGB, 32 x 32", found)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16"])
def test_other_pngs(png, mode):
    path = png / "cifar10/train/frog/0007.png"
    Image.new(mode, (32, 32)).save(path)
    refused(lambda: cifar10.load(png), f"{path}: expected mode RGB", f"found mode {mode}, 32 x 32")


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("keep", [0, 3, 100, 700, -100])
def test_truncated_jpeg(copy, as_zip, keep):
    path = copy / "cifar10/test/truck/0000.jpg"
    path.write_bytes(path.read_bytes()[:keep])
    base = write_zip(copy) if as_zip else copy / "cifar10"
    for call in (cifar10.load, cifar10.check, lambda root: cifar10.prepare(root, copy / "out.npz")):
        refused(lambda call=call: call(copy), f"{base}/test/truck/0000.jpg: expected a JPEG image")
    assert not (copy / "out.npz").exists()


def test_another_format_under_the_name(copy):
    path = copy / "cifar10/train/cat/0000.jpg"
    Image.new("RGB", (32, 32)).save(path, format="PNG")
    refused(lambda: cifar10.load(copy), f"{path}: expected a JPEG image")


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "train/plane/0000.jpg",
        "test/Dog/0000.jpg",
        "train/dog/0001.gif",
        "train/dog/1.jpg.bak",
        "train/dog/x/0001.jpg",
        "test/dog/\n.jpg",
    ],
)
def test_unknown_folders_and_files(copy, as_zip, name):
    path = copy / "cifar10" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    base = write_zip(copy) if as_zip else copy / "cifar10"
    if "/x/" in name and not as_zip:
        name = "train/dog/x"  # a folder is not entered
    refused(lambda: cifar10.load(copy), f"{base}: expected ", "CLASS of airplane, automobile", f"found {name!r}")


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("folder", ["train/horse", "test/airplane"])
def test_missing_class(copy, as_zip, folder):
    shutil.rmtree(copy / "cifar10" / folder)
    base = write_zip(copy) if as_zip else copy / "cifar10"
    refused(lambda: cifar10.load(copy), f"{base}/{folder}: expected images", "found none")


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_part(copy, part):
    shutil.rmtree(copy / "cifar10" / part)
    refused(lambda: cifar10.load(copy), f"{copy}/cifar10/{part}/airplane: expected images", "found none")


def test_mixed_kinds(copy):
    Image.new("RGB", (32, 32)).save(copy / "cifar10/train/cat/0001.png")
    refused(lambda: cifar10.load(copy), f"{copy}/cifar10: expected images of one kind, found both .jpg and .png")


def test_an_id_twice(copy):
    path = write_zip(copy)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("train/cat/0000.jpg", b"")
    refused(lambda: cifar10.load(copy), f"{path}/train/cat/0000.jpg: expected one file", "found another")


def test_damaged_zips(zipped):
    path = zipped / "cifar10/copy.zip"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-30], b"hello"):
        path.write_bytes(damaged)
        refused(lambda: cifar10.load(zipped), f"{path}: expected a zip archive")
    flipped = bytearray(whole)
    flipped[whole.index(b"JFIF")] ^= 1  # in the first member, which is the last by name
    path.write_bytes(flipped)
    refused(lambda: cifar10.load(zipped), f"{path}/train/truck/0007.jpg: expected an image file", "CRC")


# ---- one file instead of the folder ----


@pytest.mark.parametrize("layout", ["official", "archive", "copy", "zipped", "png"])
def test_prepared_gives_the_same_bits(request, layout):
    root = request.getfixturevalue(layout)
    out = root / "new/folder/cifar10.npz"
    digest = cifar10.prepare(root, out)
    assert [path.name for path in out.parent.iterdir()] == ["cifar10.npz"]
    assert same(cifar10.load(out), cifar10.load(root))
    assert cifar10.load(out).fingerprint() == cifar10.load(root).fingerprint()
    assert cifar10.check(out) == cifar10.check(root)
    assert digest in cifar10.check(root)
    again = root / "again.npz"
    assert cifar10.prepare(out, again) == digest
    assert same(cifar10.load(again), cifar10.load(root))


def test_folder_and_zip_prepare_to_the_same(copy):
    digest = cifar10.prepare(copy, copy / "a.npz")
    write_zip(copy)
    assert cifar10.prepare(copy, copy / "b.npz") == digest


def test_prepared_copies_keep_their_bytes(copy):
    cifar10.prepare(copy, copy / "out.npz")
    arrays = prepared.read(copy / "out.npz", "cifar10")
    assert (arrays["files"].dtype, arrays["files"].ndim) == (np.uint8, 1)
    assert (arrays["offsets"].dtype, arrays["offsets"].shape) == (np.int64, (31,))
    for i, name in enumerate(sorted(MEMBERS)):
        content = arrays["files"][arrays["offsets"][i] : arrays["offsets"][i + 1]].tobytes()
        assert content == (copy / f"cifar10/{name}.jpg").read_bytes()


def test_damaged_prepared_files(copy):
    out = copy / "cifar10.npz"
    cifar10.prepare(copy, out)
    whole = out.read_bytes()
    for damaged in (b"", whole[:3], whole[:1000], whole[:-1], whole[1000:]):
        out.write_bytes(damaged)
        refused(lambda: cifar10.load(out), f"{out}: expected a file written by `python -m fewlabels prepare cifar10`")
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    out.write_bytes(flipped)
    refused(lambda: cifar10.load(out), f"{out}: ")


def test_changed_prepared_content(copy):
    out = copy / "cifar10.npz"
    cifar10.prepare(copy, out)
    with np.load(out) as file:
        arrays = dict(file)
    arrays["labels"][0] ^= 1
    np.savez_compressed(out, **arrays)
    refused(lambda: cifar10.load(out), f"{out}: expected content with SHA-256 {arrays['sha256']}")


def test_foreign_prepared_files(copy):
    out = copy / "file.npz"
    out.write_text("hello")
    refused(lambda: cifar10.load(out), f"{out}: ")
    prepared.write(out, "jsrt", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: cifar10.load(out), f"{out}: ", "prepare cifar10", "found one of jsrt")
    prepared.write(out, "cifar10", {"images": np.zeros((2, 3, 3), np.int16)})
    refused(lambda: cifar10.load(out), f"{out}: expected arrays data, ids, labels", "found images")


def test_a_prepared_file_with_a_damaged_image(copy):
    """It names the member: the file itself is as it was written."""
    out = copy / "file.npz"
    cifar10.prepare(copy, out)
    arrays = prepared.read(out, "cifar10")
    arrays["files"][arrays["offsets"][4] : arrays["offsets"][5]] = 0
    prepared.write(out, "cifar10", arrays)
    refused(lambda: cifar10.load(out), f"{out}/{sorted(MEMBERS)[4]}.jpg: expected a JPEG image")


# ---- splits ----


def test_split_of_the_report():
    parts = cifar10.splits(ALL, 4000, 45_000, 1000)
    assert parts.labelled == tuple(ALL[:4000])
    assert parts.unlabelled == tuple(ALL[4000:49_000])
    assert parts.validation == tuple(ALL[49_000:50_000])
    assert parts.test == tuple(ALL[50_000:])


def test_split_without_seed_takes_the_order_of_the_ids():
    parts = cifar10.splits(["test/1", "c", "a", "b", "test/0"], 1, 1, 1)
    assert (parts.labelled, parts.unlabelled, parts.validation, parts.test) == (
        ("c",),
        ("a",),
        ("b",),
        ("test/1", "test/0"),
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_splits(seed):
    parts = cifar10.splits(ALL, 4000, 20_000, 1000, seed=seed)
    assert [len(part) for part in (parts.labelled, parts.unlabelled, parts.validation)] == [4000, 20_000, 1000]
    train = parts.labelled + parts.unlabelled + parts.validation
    assert len(set(train)) == 25_000
    assert set(train) < set(ALL[:50_000])
    assert set(parts.test) == set(ALL[50_000:])
    order = np.random.default_rng(seed).permutation(50_000)
    assert train == tuple(f"train/{i:05}" for i in order[:25_000])
    backwards = cifar10.splits(ALL[::-1], 4000, 20_000, 1000, seed=seed)
    assert (backwards.labelled, backwards.unlabelled, backwards.validation) == (
        train[:4000],
        train[4000:24_000],
        train[24_000:],
    )
    assert set(backwards.test) == set(parts.test)
    assert parts != cifar10.splits(ALL, 4000, 20_000, 1000, seed=seed + 2)


def test_splits_do_not_change():
    parts = cifar10.splits(ALL, 3, 0, 1, seed=0)
    assert parts.labelled + parts.validation == PINNED


def test_splits_of_digits():
    ids = [f"digit/{i:04}" for i in range(1797)]
    parts = cifar10.splits(ids, 200, 1100, 150, seed=3)
    assert len(parts.test) == 347
    everyone = parts.labelled + parts.unlabelled + parts.validation + parts.test
    assert sorted(everyone) == ids  # each once
    assert parts == cifar10.splits(ids[::-1], 200, 1100, 150, seed=3)
    assert cifar10.splits(ids, 200, 0, 150).unlabelled == ()


def test_impossible_splits():
    refused(lambda: cifar10.splits(ALL, 0, 5, 5), "labels: expected 1 or more, found 0")
    refused(lambda: cifar10.splits(ALL, 5, -1, 5), "unlabelled: expected 0 or more, found -1")
    refused(lambda: cifar10.splits(ALL, 5, 5, 0), "validation: expected 1 or more, found 0")
    refused(lambda: cifar10.splits(ALL, 4000, 45_000, 1001), "split: ", "50,001 images", "found 50,000")
    refused(lambda: cifar10.splits(["a", "b", "c"], 1, 1, 1), "split: expected more than 3 images", "found 3")
    assert cifar10.splits(["a", "b", "c", "d"], 1, 1, 1).test == ("d",)


# ---- download ----


@pytest.fixture
def server(monkeypatch):
    """server(content, status, length): serves this as the official archive from now on."""
    answer = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(answer["length"]))
            self.end_headers()
            self.wfile.write(answer["content"])

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cifar10_files, "URL", f"http://127.0.0.1:{http.server_port}/cifar-10-python.tar.gz")

    def serve(content, status=200, length=None):
        answer.update(content=content, status=status, length=len(content) if length is None else length)

    yield serve
    http.shutdown()
    http.server_close()
    thread.join()


def test_download(archive, server, tmp_path, monkeypatch):
    path = archive / "cifar10/cifar-10-python.tar.gz"
    server(path.read_bytes())
    root = tmp_path / "elsewhere"
    got = cifar10.download(root)
    assert got == root / "cifar10/cifar-10-python.tar.gz"
    assert got.read_bytes() == path.read_bytes()
    assert files_below(root) == ["cifar10/cifar-10-python.tar.gz"]
    assert same(cifar10.load(root), cifar10.load(archive))
    server(b"", 404)
    assert cifar10.download(root) == got  # it is there: not fetched again


def test_download_replaces_a_damaged_archive(archive, server):
    path = archive / "cifar10/cifar-10-python.tar.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    server(whole)
    assert cifar10.download(archive).read_bytes() == whole


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"content": b"another"}, hashlib.sha256(b"another").hexdigest()),
        ({"content": b"<html>no</html>", "status": 404}, "404"),
        ({"content": b"oops", "status": 500}, "500"),
        ({"content": b"half", "length": 8}, ""),
    ],
)
def test_downloads_that_fail(server, tmp_path, answer, found):
    server(**answer)
    path = tmp_path / "cifar10/cifar-10-python.tar.gz"
    texts = (f"{cifar10_files.URL}: expected {path} with SHA-256 {cifar10_files.SHA256}", found)
    refused(lambda: cifar10.download(tmp_path), *texts)
    assert files_below(tmp_path) == []
    path.write_bytes(b"what was there")
    refused(lambda: cifar10.download(tmp_path), *texts)
    assert files_below(tmp_path) == ["cifar10/cifar-10-python.tar.gz"]
    assert path.read_bytes() == b"what was there"


def test_downloads_from_nowhere_and_to_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cifar10_files, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    refused(lambda: cifar10.download(tmp_path), f"{cifar10_files.URL}: ", cifar10_files.SHA256)
    assert files_below(tmp_path) == []
    (tmp_path / "file").write_text("x")
    refused(lambda: cifar10.download(tmp_path / "file"), str(tmp_path / "file/cifar10"))


# ---- the real files ----


@pytest.fixture(scope="module")
def real_root():
    root = os.environ.get("FEWLABELS_DATA")
    if not root or not Path(root, "cifar10").is_dir():
        pytest.skip("FEWLABELS_DATA is not set to a folder that holds cifar10/: no photograph is shipped")
    return Path(root)


@pytest.mark.long
def test_real_data(real_root, tmp_path, monkeypatch):
    cohort, out = cifar10.load(real_root), tmp_path / "cifar10.npz"
    with monkeypatch.context() as patch:
        patch.setattr(cifar10_files, "_decode", lambda *_: None)  # they have been decoded, and will be again
        cifar10.prepare(real_root, out)
    assert same(cohort, cifar10.load(out))
    copied = cohort.meta["data"] != "cifar10"
    if copied:
        assert out.stat().st_size <= 45e6
    train = torch.tensor([name.startswith("train/") for name in cohort.ids])
    assert cohort.labels[~train].bincount().tolist() == [1000] * 10
    assert cohort.labels[train].bincount().tolist() == [2500 if copied else 5000] * 10
    if copied:
        assert cohort.meta["data"] == "cifar10-jpeg"
        assert "25,000 of the 50,000" in cohort.meta["source"]
    assert (float(cohort.images.min()), float(cohort.images.max())) == (0, 1)
    assert cohort.images.mean((0, 2, 3)).tolist() == pytest.approx([0.491, 0.482, 0.447], abs=0.005)  # as published
    assert cohort.images.std((0, 2, 3)).tolist() == pytest.approx([0.247, 0.243, 0.262], abs=0.005)
    blue = [
        float((images[:, 2] - images[:, 0]).mean()) for images in (cohort.images[cohort.labels == k] for k in range(10))
    ]
    assert set(np.argsort(blue)[-2:]) == {0, 8}  # sky and sea: airplanes and ships
    upper, lower = cohort.images[:, :, :8].mean(), cohort.images[:, :, 24:].mean()
    assert upper > lower + 0.02  # light comes from above
