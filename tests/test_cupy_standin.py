"""The stand-in for CuPy keeps CuPy's rules: one test per rule."""

import copy
import importlib
import inspect
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import cupy_standin
from tests.cupy_standin import TRANSFERS, UPLOADS


@pytest.fixture
def cupy() -> Iterator[Any]:
    with cupy_standin.installed() as module:
        yield module


@pytest.fixture
def x(cupy: Any) -> Any:
    """(3, 4) float32: 0, 1, ..., 11 row by row."""
    return cupy.arange(12, dtype=cupy.float32).reshape(3, 4)


def same(array: Any, expected: Any) -> None:
    np.testing.assert_array_equal(array.get(), expected)


# What NumPy and CuPy have in common


def test_import_finds_the_standin_only_while_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", sys)  # in the place of a real one
    before = {name: module for name, module in sys.modules.items() if name.startswith("cupy")}
    with cupy_standin.installed() as module:
        import cupy
        import cupy.linalg
        import cupyx
        from cupy.lib.stride_tricks import as_strided

        assert cupy is module and cupy.is_standin and cupyx.scatter_add and as_strided
    assert {name: found for name, found in sys.modules.items() if name.startswith("cupy")} == before


def test_slices_are_views_and_in_place_operators_write_through_them(cupy: Any, x: Any) -> None:
    row, element = x[1], x[2, 3]
    row += 100
    element[...] = -1
    same(x, [[0, 1, 2, 3], [104, 105, 106, 107], [8, 9, 10, -1]])
    assert cupy.shares_memory(x.T, x) and cupy.asarray(x) is x


def test_out_receives_the_result_and_is_returned(cupy: Any, x: Any) -> None:
    out = cupy.empty_like(x)
    assert cupy.add(x, 1, out=out) is out and cupy.multiply(x, 2, out) is out
    assert x.sum(axis=0, out=out[0]).shape == (4,)
    same(out[0], [12, 15, 18, 21])


@pytest.mark.parametrize("index", [(1,), (slice(None), None), (..., 2), (0, slice(None, None, -1)), (-1, -1)])
def test_basic_indices_select_as_in_numpy(x: Any, index: Any) -> None:
    same(x[index], x.get()[index])


def test_functions_of_numpy_run_those_of_cupy(cupy: Any, x: Any) -> None:
    for result in (np.exp(x), np.sum(x), np.concatenate([x, x]), np.linalg.norm(x), np.float32(2) * x, 2 * x, x @ x.T):
        assert isinstance(result, cupy.ndarray)
    with pytest.raises(TypeError):
        np.multiply.outer(x, x)


# What CuPy lacks


@pytest.mark.parametrize("name", ["block", "errstate", "vecdot", "insert", "nditer", "geomspace", "nanquantile"])
def test_names_that_cupy_lacks_are_missing(cupy: Any, name: str) -> None:
    assert not hasattr(cupy, name)
    assert hasattr(np, name)


def test_names_that_other_modules_of_cupy_lack_are_missing(cupy: Any, x: Any) -> None:
    assert not hasattr(cupy.linalg, "multi_dot")
    assert not hasattr(x, "ctypes") and not hasattr(x, "__index__")
    generator = cupy.random.default_rng(0)
    assert generator.standard_normal((2,), dtype=cupy.float32).dtype == np.float32
    assert not any(hasattr(generator, name) for name in ("normal", "permutation", "shuffle", "choice"))


@pytest.mark.parametrize(
    "call",
    [
        lambda cupy, x: cupy.exp(x, where=x > 0),
        lambda cupy, x: cupy.exp(x, order="C"),
        lambda cupy, x: cupy.sum(x, where=x > 0),
        lambda cupy, x: cupy.max(x, initial=0),
        lambda cupy, x: x.max(initial=0),
        lambda cupy, x: x.var(correction=1),
        lambda cupy, x: cupy.take(x, 0, mode="wrap"),
        lambda cupy, x: cupy.einsum("ij->i", x, out=x[:, 0]),
        lambda cupy, x: cupy.lib.stride_tricks.as_strided(x, (2,), writeable=False),
        lambda cupy, x: cupy.sort(x, stable=True),
        lambda cupy, x: cupy.zeros(3, device="cpu"),
    ],
)
def test_keywords_that_cupy_lacks_are_refused(cupy: Any, x: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword"):
        call(cupy, x)


def test_optional_arguments_stand_in_the_order_of_cupy(cupy: Any, x: Any) -> None:
    """After keepdims comes nothing in CuPy, and `initial` in NumPy."""
    same(x.sum(0, None, None, True), [[12, 15, 18, 21]])
    with pytest.raises(TypeError, match="too many positional"):
        cupy.sum(x, 0, None, None, False, 0)


def test_ufuncs_have_only_the_methods_that_work_in_cupy(cupy: Any, x: Any) -> None:
    same(cupy.add.reduce(x), [12, 15, 18, 21])
    assert cupy.multiply.outer(x[0], x[1]).shape == (4, 4)
    for call in (lambda: cupy.maximum.reduce(x), lambda: cupy.exp.at(x, 0), lambda: cupy.subtract.accumulate(x)):
        with pytest.raises(NotImplementedError, match="is not supported yet"):
            call()


def test_the_matrix_product_is_not_assigned_in_place(x: Any) -> None:
    with pytest.raises(TypeError):
        x @= x.T


# What CuPy does differently


def test_reductions_and_integer_indices_give_0d_arrays(cupy: Any, x: Any) -> None:
    results = (x.sum(), cupy.mean(x), x.argmax(), x[0, 1], cupy.allclose(x, x), cupy.count_nonzero(x), x[0] @ x[0])
    assert all(isinstance(result, cupy.ndarray) and result.shape == () for result in results)


@pytest.mark.parametrize("operation", [np.asarray, np.array, lambda x: np.ones(3)[x], lambda x: np.array([x, 1.0])])
def test_implicit_conversion_is_an_error(x: Any, operation: Any) -> None:
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        operation(x[0, :3])


@pytest.mark.parametrize("other", [np.ones(4), [1.0, 2.0, 3.0, 4.0], np.array(1.0), None, "1"])
def test_ufuncs_and_operators_refuse_host_arrays_and_lists(cupy: Any, x: Any, other: Any) -> None:
    for operation in (lambda: x + other, lambda: other + x, lambda: x @ other, lambda: cupy.maximum(x, other)):
        with pytest.raises(TypeError):
            operation()


def test_functions_refuse_host_arrays_and_lists(cupy: Any, x: Any) -> None:
    for wrong in (np.ones((3, 4)), [1.0, 2.0]):
        with pytest.raises(TypeError, match="Unsupported type"):
            cupy.sum(wrong)
    with pytest.raises(TypeError, match="Unsupported type"):
        cupy.concatenate([x, np.ones((3, 4))])


def test_python_scalars_are_weak_and_numpy_scalars_are_not(x: Any) -> None:
    assert (x * 2.0).dtype == (2 * x).dtype == (x * np.float32(2)).dtype == np.float32
    assert (np.float64(2) * x).dtype == (x * np.float64(2)).dtype == np.float64


def test_an_object_with_operators_of_its_own_is_asked_when_it_says_so(x: Any) -> None:
    class Own:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "mine"

    assert x + Own() == "mine"


def test_integer_array_indices_out_of_range_wrap(cupy: Any, x: Any) -> None:
    far = cupy.asarray([4, -4])
    same(x[far], x.get()[[1, 2]])
    same(x[..., cupy.asarray([5])], x.get()[:, [1]])
    same(cupy.take(x, far, axis=0), x.get()[[1, 2]])
    with pytest.raises(IndexError):
        x[4]


def test_integer_array_indices_copy(cupy: Any, x: Any) -> None:
    x[cupy.asarray(1)] += 0  # reads a copy, and stores it
    row = x[cupy.asarray(1)]
    row += 100
    same(x, np.arange(12.0).reshape(3, 4))


def test_stores_with_duplicate_indices_are_refused(cupy: Any, x: Any) -> None:
    rows, columns = cupy.asarray([0, 0]), cupy.asarray([1, 2])
    x[rows, columns] = 0.0  # two places
    same(x[0], [0, 0, 0, 3])
    for store in (
        lambda: x.__setitem__(rows, 1.0),
        lambda: x.__setitem__((rows, cupy.asarray([1, 5])), 1.0),
        lambda: cupy.put_along_axis(x, cupy.asarray([[0, 0]] * 3), cupy.ones((3, 2)), 1),
    ):
        with pytest.raises(AssertionError, match="undefined in CuPy"):
            store()
    cupy.put_along_axis(x, cupy.asarray([[0, 1]] * 3), cupy.ones((3, 2), cupy.float32), 1)


def test_boolean_masks_select_and_store(cupy: Any, x: Any) -> None:
    x[x > 5] = 0.0
    assert x[x > 3].shape == (2,)
    same(x[:, x[0] > 2], x.get()[:, [3]])


def test_stores_refuse_host_arrays(x: Any) -> None:
    with pytest.raises(TypeError, match="Unsupported type"):
        x[0] = np.ones(4)


def test_scatter_adds_duplicates_and_only_in_types_that_the_gpu_has(cupy: Any) -> None:
    import cupyx

    total = cupy.zeros(3, cupy.float32)
    place = cupy.asarray([0, 0, 4])
    cupyx.scatter_add(total, place, 1.0)
    cupy.add.at(total, place, cupy.ones(3))
    total.scatter_max(place, 9.0)
    same(total, [9, 9, 0])
    with pytest.raises(TypeError, match="only supports"):
        cupy.add.at(cupy.zeros(3, cupy.int64), place, 1)


def test_objects_and_strings_do_not_go_to_the_device(cupy: Any) -> None:
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cupy.asarray(["a"])


def test_arrays_hash_copy_and_pickle_as_in_cupy(cupy: Any, x: Any) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)
    for twin in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        same(twin, x.get())
        assert not cupy.shares_memory(twin, x)


# Copies between host and device are recorded


@pytest.mark.parametrize(
    "what, read",
    {
        "get": lambda cupy, x: x.get(),
        "item": lambda cupy, x: x[0, 0].item(),
        "tolist": lambda cupy, x: x.tolist(),
        "float": lambda cupy, x: float(x.sum()),
        "int": lambda cupy, x: int(x[0, 0]),
        "bool": lambda cupy, x: bool((x > 0).all()),
        "str": lambda cupy, x: str(x),
        "format": lambda cupy, x: f"{x[0, 1]:.2f}",
        "asnumpy": lambda cupy, x: cupy.asnumpy(x),
        "mask": lambda cupy, x: x[x > 3],
        "nonzero": lambda cupy, x: x.nonzero(),
        "where": lambda cupy, x: cupy.where(x > 3),
        "unique": lambda cupy, x: cupy.unique(x),
    }.items(),
)
def test_transfers_to_the_host_are_recorded_with_their_caller(cupy: Any, x: Any, what: str, read: Any) -> None:
    assert TRANSFERS == []
    read(cupy, x)
    assert list(TRANSFERS) == [(what, f"{__name__}.<lambda>")]


def test_work_on_the_device_is_no_transfer(cupy: Any, x: Any) -> None:
    cupy.where(x > 3, x, 0.0).sum(axis=0)[cupy.arange(2)] += x[0, :2]
    assert not TRANSFERS and not UPLOADS and len(x) == 3 and x.size == 12


def test_uploads_are_recorded_with_their_caller(cupy: Any, x: Any) -> None:
    cupy.asarray(np.ones(3))
    cupy.asarray(x)
    cupy.stack([x, x])
    x[[0, 1]].set(np.zeros((2, 4), np.float32))
    here = f"{__name__}.test_uploads_are_recorded_with_their_caller"
    assert list(UPLOADS) == [("asarray", here), ("index", here), ("set", here)]


# The rest of the machine


def test_device_code_can_be_made_but_not_run(cupy: Any, x: Any) -> None:
    kernel = cupy.ReductionKernel("T x", "T y", "x", "a + b", "y = a", "0", "total")
    with pytest.raises(NotImplementedError, match="cannot run device code"):
        kernel(x)


def test_streams_memory_and_fusing(cupy: Any, x: Any) -> None:
    assert cupy.cuda.is_available() and cupy.cuda.runtime.getDeviceCount() == 1
    assert cupy.get_default_memory_pool().used_bytes() == 0
    assert cupy.get_array_module(x) is cupy and cupy.get_array_module(np.ones(1)) is np
    assert cupy.fuse(abs) is abs and cupy.fuse(kernel_name="k")(abs) is abs
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        start.record(stream)
        end.record()
    end.synchronize()
    assert cupy.cuda.get_elapsed_time(start, end) >= 0


def test_random_numbers_of_the_device_leave_those_of_the_host_alone(cupy: Any) -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    cupy.random.default_rng(1).random((3,))
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    with pytest.raises(NotImplementedError):
        cupy.random.normal(size=3)


# Against the real one


def real_listing() -> dict[str, dict[str, str]]:
    pytest.importorskip("cupy", reason="CuPy is not installed: nothing to compare the stand-in with")
    from tests import make_cupy_api

    return make_cupy_api.listing()


def test_the_listing_is_that_of_the_installed_cupy() -> None:
    written = json.loads(Path(__file__).with_name("cupy_api.json").read_text())
    listing = real_listing()
    if sys.modules["cupy"].__version__ != written.pop("version"):
        pytest.skip("another version of CuPy than the listing's; run tests/make_cupy_api.py to write it anew")
    assert listing == written


def test_names_given_by_hand_exist_in_the_installed_cupy() -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed: nothing to compare the stand-in with")
    for path, module in cupy_standin.MODULES.items():
        real = importlib.import_module(path)
        given = {name for name in vars(module) if not name.startswith("__")} - {"is_standin"}
        assert [name for name in sorted(given) if not hasattr(real, name)] == []


def test_methods_of_the_array_exist_in_the_listing() -> None:
    """Also without CuPy: nothing on the stand-in's array that CuPy's array lacks."""
    listed = cupy_standin.API["cupy.ndarray"]
    methods = {name for name, _ in inspect.getmembers(cupy_standin.cupy.ndarray) if not name.startswith("_")}
    assert methods <= set(listed)
