"""What the bindings make of devices: by a fake _cuda module, without any GPU or driver."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import subgrad_fast as sf
from subgrad_fast import _core
from tests import ROOT
from tests.cuda.device_arrays import CPU, CUDA_HOST, CUDA_MANAGED, STREAM, DeviceArray

PREAMBLE = f"""
import sys
sys.path.append({str(ROOT)!r})
import numpy as np
import subgrad_fast as sf
from subgrad_fast import _core
from tests.cuda.device_arrays import *
from tests.cuda.fake_cuda import FakeCuda

def allocate(shape, dtype):
    return DeviceArray(np.zeros(shape, dtype), number)
DeviceArray.make_empty = allocate
number = 0  # of the device that new arrays are on

def ones(number=0, kind=CUDA, shape=4):
    return DeviceArray(np.ones(shape, np.float32), number, kind)

def refused(*arguments, **hyper):
    try:
        sf.sgd_step(*arguments, lr=0.1, **hyper)
    except (ValueError, TypeError, RuntimeError) as error:
        print(f"{{type(error).__name__}}: {{error}}")
    else:
        print("not refused")
"""


def says(code: str) -> list[str]:
    """What `code` prints in a fresh process: what is known of CUDA is kept for a process' life."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_tensors_are_grouped_by_device() -> None:
    launches = says(
        """
fake = FakeCuda(sf.__version__).install()
params = [ones(i) for i in (1, 0, 1, 0, 0)]
host = np.ones(4, np.float32)
sf.sgd_step([*params, host], [*[ones(p.number) for p in params], host.copy()], lr=0.5)
for launch in fake.launches:
    print(launch["device"], launch["stream"], launch["lr"], launch["params"] ==
          [p.array.ctypes.data for p in params if p.number == launch["device"]])
print(DeviceArray.streams, host)
"""
    )
    assert launches == [
        f"1 {STREAM} 0.5 True",
        f"0 {STREAM} 0.5 True",
        "[(2, 1), (2, 0)] [0.5 0.5 0.5 0.5]",
    ]


def test_arguments_on_different_devices_are_refused() -> None:
    assert says(
        """
fake = FakeCuda(sf.__version__).install()
host = np.ones(4, np.float32)
refused([host, ones()], [host, ones(1)])
refused([ones()], [host])
refused([host], [ones()])
refused(ones(), ones(), host, momentum=0.9)
refused(ones(), ones(kind=CUDA_HOST))
print(fake.launches, host)
"""
    ) == [
        "ValueError: grads[1]: expected memory on cuda:0 like params[1], got cuda:1",
        "ValueError: grads[0]: expected memory on cuda:0 like params[0], got cpu",
        "ValueError: grads[0]: expected memory on cpu like params[0], got cuda:0",
        "ValueError: momentum_buffers: expected memory on cuda:0 like params, got cpu",
        "ValueError: grads: expected memory on cuda:0 like params, got cpu",
        "[] [1. 1. 1. 1.]",
    ]


def test_pinned_memory_is_the_hosts_and_managed_memory_the_devices() -> None:
    assert says(
        """
fake = FakeCuda(sf.__version__).install()
pinned = ones(kind=CUDA_HOST)
sf.sgd_step(pinned, ones(kind=CPU), lr=0.5)
print(pinned.array, len(fake.launches))
sf.sgd_step(ones(kind=CUDA_MANAGED), ones(), lr=0.5)
print(len(fake.launches), fake.launches[0]["device"])
refused(ones(kind=10), ones(kind=10))
"""
    ) == [
        "[0.5 0.5 0.5 0.5] 0",
        "1 0",
        "ValueError: params: expected CPU or CUDA memory, got a tensor on cuda:0",
    ]


def test_what_is_not_dense_is_refused() -> None:
    assert says(
        """
fake = FakeCuda(sf.__version__).install()
matrix = np.ones((4, 6), np.float32)
refused(DeviceArray(matrix[:, ::2]), DeviceArray(matrix[:, ::2].copy()))
refused(DeviceArray(matrix), DeviceArray(np.ones((6, 4), np.float32).T))
refused(DeviceArray(matrix), DeviceArray(np.broadcast_to(np.float32(1), (4, 6))))
refused([ones()], [ones()], [DeviceArray(np.ones(8, np.float32)[::2])], momentum=0.9)
print(len(fake.launches))
# In memory these are in order: any order of dimensions, and strides that say nothing.
turned = np.ones((6, 4), np.float32).T
sf.sgd_step(DeviceArray(turned), DeviceArray(turned.copy("K")), lr=0.5)
column = np.lib.stride_tricks.as_strided(np.ones(4, np.float32), (4, 1), (4, 400))
sf.sgd_step(DeviceArray(column), ones(shape=(4, 1)), lr=0.5)
print(len(fake.launches))
"""
    ) == [
        "ValueError: params: on cuda:0 an array must be contiguous in its parameter's order",
        "ValueError: grads: on cuda:0 an array must be contiguous in its parameter's order",
        "ValueError: grads: on cuda:0 an array must be contiguous in its parameter's order",
        "ValueError: grads[0]: on cuda:0 an array must be contiguous in its parameter's order",
        "0",
        "2",
    ]


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        ("driver=0", "there is no CUDA driver"),
        ("devices=0", "there is no GPU"),
        ("driver=11040, count_error=35", "error 35 (driver for CUDA 11.4)"),
        ("broken_device=0", "error 209"),
    ],
)
def test_why_there_are_no_kernels(fake: str, message: str) -> None:
    said = says(
        f"""
fake = FakeCuda(sf.__version__, {fake}).install()
refused([ones()], [ones()])
print(_core.cuda.problem(0), len(fake.launches))
"""
    )
    assert said == [f"ValueError: params[0]: is on cuda:0, but {message}", f"{message} 0"]


def test_a_failure_that_passes_is_not_remembered() -> None:
    assert says(
        """
fake = FakeCuda(sf.__version__, count_error=46).install()  # all devices are busy
refused([ones()], [ones()])
fake.count_error = 0
x = ones()
sf.sgd_step(x, ones(), lr=0.5)
print(len(fake.launches))
fake.count_error = 46  # what has worked is not asked again
sf.sgd_step(x, ones(), lr=0.5)
print(len(fake.launches))
"""
    ) == [
        "ValueError: params[0]: is on cuda:0, but error 46 (driver for CUDA 13.0)",
        "1",
        "2",
    ]


def test_kernels_of_another_version_are_refused() -> None:
    assert says(
        """
FakeCuda('0.0.0').install()
refused(ones(), ones())
info = _core.cuda.info()
print(info["architectures"], info["devices"], info["problem"])
"""
    ) == [
        "ValueError: params: is on cuda:0, but its kernels are those of version 0.0.0",
        "None [] its kernels are those of version 0.0.0",
    ]


def test_a_build_without_kernels_says_so() -> None:
    assert says("sys.modules['subgrad_fast._cuda'] = None; refused(ones(), ones())") == [
        "ValueError: params: is on cuda:0, but this build has no CUDA kernels (see SUBGRAD_CUDA)"
    ]


def test_an_error_of_a_launch_is_raised() -> None:
    assert says(
        """
FakeCuda(sf.__version__, launch_error=719).install()
host = np.ones(4, np.float32)
refused([host, ones()], [host.copy(), ones()])
print(host)  # launched first, so nothing is written here
"""
    ) == ["RuntimeError: CUDA on cuda:0: error 719", "[1. 1. 1. 1.]"]


SAMPLING = """
def tell(*calls):
    for call in calls:
        try:
            call()
        except (ValueError, TypeError, RuntimeError) as error:
            print(f"{type(error).__name__}: {error}")
order = sf.Permutation(100)
out = DeviceArray(np.zeros(5, np.int64), 1)
"""


def test_indices_are_computed_where_they_go() -> None:
    said = says(
        SAMPLING
        + """
fake = FakeCuda(sf.__version__).install()
order.slice(0, 5, out=out)
sf.choose(10, 5, out=out)
order._order.positions(out)
_core.sampling.uniform_draws(9, 0, 0, 0, out)
_core.testing.send_indices([1, 2, 3, 4, 5], 9, out)
_core.testing.gather([ones(1, shape=(9, 2))], [ones(1, shape=(5, 2))], out)
for launch in fake.launches:
    where, count = launch["arguments"][-2:]
    print(launch["name"], launch["device"], launch["stream"], count,
          where == out.array.ctypes.data)
print(set(DeviceArray.streams))
"""
    )
    names = ["order_range", "order_range", "order_positions", "uniform_draws"]
    names += ["send_indices", "gather"]
    assert said == [*(f"{name} 1 {STREAM} 5 True" for name in names), "{(2, 1)}"]


def test_devices_that_indices_cannot_be_computed_on() -> None:
    said = says(
        SAMPLING
        + """
FakeCuda(sf.__version__, broken_device=1).install()
tell(lambda: order.slice(0, 5, out=out),
     lambda: sf.choose(9, 5, out=out),
     lambda: order._order.indices(out),
     lambda: _core.testing.gather([ones(1)], [ones(1)], out))
"""
    )
    names = ("out", "out", "values", "sources[0]")
    assert said == [f"ValueError: {name}: is on cuda:1, but error 209" for name in names]


def test_a_batch_comes_from_one_device() -> None:
    assert says(
        SAMPLING
        + """
FakeCuda(sf.__version__, launch_error=719).install()
tell(lambda: _core.testing.gather([ones(0)], [ones(1)], out),
     lambda: _core.testing.gather([ones(1)], [ones(0)], out),
     lambda: order.slice(0, 5, out=out),
     lambda: sf.WeightedSampler(np.ones(5)).draw(5, out=out),
     lambda: sf.BatchLoader(ones(), [[0]]),
     lambda: sf.BatchLoader((ones(), ones(1)), [[0]]))
"""
    ) == [
        "ValueError: sources[0]: expected 4 contiguous rows on cuda:1",
        "ValueError: outputs[0]: does not fit its source",
        "RuntimeError: CUDA on cuda:1: error 719",
        "RuntimeError: CUDA on cuda:1: error 719",
        "TypeError: arrays: expected a torch tensor, got DeviceArray",
        "ValueError: arrays[1]: expected memory on cuda:0 like arrays[0], got cuda:1",
    ]


def test_info_names_the_devices() -> None:
    said = says(
        """
FakeCuda(sf.__version__, broken_device=1).install()
from subgrad_fast.__main__ import info
info(as_json=False, memory=False)
"""
    )
    [line] = [line for line in said if line.startswith("CUDA")]
    assert "built for 90; driver for CUDA 13.0; Fake (compute capability 9.0), Fake" in line
    assert line.endswith("(compute capability 9.0): error 209")


def test_other_functions_refuse_memory_on_a_device() -> None:
    array = DeviceArray(np.ones(4, np.float32))
    with pytest.raises(ValueError, match="like: expected CPU memory, got a tensor on cuda:0"):
        _core.optimizer.new_buffer(array)


def test_without_a_driver_the_host_still_works() -> None:
    if _core.cuda.problem(0) is None:
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=r"params: is on cuda:0, but "):
        sf.sgd_step(DeviceArray(np.ones(3, np.float32)), np.ones(3, np.float32), lr=1.0)
    assert _core.cuda.info()["devices"] == []
    w = np.ones(3, np.float32)
    sf.sgd_step(w, DeviceArray(w.copy(), kind=CPU), lr=1.0)
    assert (w == 0).all()
    assert CUDA_HOST != CUDA_MANAGED and STREAM


@pytest.mark.torch
def test_torchs_own_code_takes_devices_without_kernels() -> None:
    torch = pytest.importorskip("torch")
    from subgrad_fast.optim import tensors

    if _core.cuda.problem(0) is None:
        pytest.skip("there is a GPU")
    assert tensors.has_kernels(torch.device("cpu"))
    assert not tensors.has_kernels(torch.device("cuda", 0))
    assert not tensors.has_kernels(torch.device("meta"))


THRESHOLD = """
def tried(call):
    try:
        call()
    except (ValueError, TypeError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("not refused")

def step(*devices, **how):
    arrays = ([ones(d) for d in devices] for _ in range(3))
    sf.threshold_step(*arrays, lr=0.1, **{"k": 2, **how})
"""


def test_the_threshold_step_and_selection_run_where_their_arrays_are() -> None:
    assert says(
        THRESHOLD
        + """
number = 1
fake = FakeCuda(sf.__version__).install()
step(1, 1)
sf.select(ones(1), k=2)
sf.kth_magnitude([ones(1), ones(1)], 2)
for launch in fake.launches:
    print(launch["name"], launch["device"], launch["stream"], launch["arguments"][1])
"""
    ) == [
        *(f"{name} 1 {STREAM} 2" for name in ("threshold_begin", "threshold_finish")),
        *(f"{name} 1 {STREAM} 1" for name in ("select_find", "select_write")),
        f"select_find 1 {STREAM} 2",
    ]


def test_the_tensors_of_a_threshold_step_are_grouped_by_device() -> None:
    assert says(
        THRESHOLD
        + """
fake = FakeCuda(sf.__version__).install()
step(1, 0, 1)
for launch in fake.launches:
    print(launch["name"], launch["device"], launch["stream"], launch["arguments"][1])
"""
    ) == [
        f"threshold_begin 1 {STREAM} 2",
        f"threshold_begin 0 {STREAM} 1",
        f"threshold_finish 1 {STREAM} 2",
        f"threshold_finish 0 {STREAM} 1",
    ]


def test_a_threshold_step_looks_at_gradients_on_the_host_only() -> None:
    wanted = "gradients of a thresholded step are looked at on the CPU only, and"
    assert says(
        THRESHOLD
        + """
fake = FakeCuda(sf.__version__).install()
for how in (
    {"max_norm": 1.0, "clip_value": 1.0},
    {"clip_value": 1.0, "skip_nonfinite": True},
    {"skip_nonfinite": True},
    {"grad_scale": 2.0},
    {"max_norm_scope": "tensor"},  # which bounds nothing by itself
):
    tried(lambda: step(0, 1, **how))
print(len(fake.launches))
"""
    ) == [
        f"ValueError: max_norm: {wanted} params[0] is on cuda:0",
        f"ValueError: clip_value: {wanted} params[0] is on cuda:0",
        f"ValueError: skip_nonfinite: {wanted} params[0] is on cuda:0",
        f"ValueError: grad_scale: {wanted} params[0] is on cuda:0",
        "not refused",
        "4",
    ]


def test_one_threshold_and_selection_refuse_several_devices() -> None:
    wanted = "expected one float64 on cuda:0"
    where = "params[0] is on cuda:0 and params[1] on cuda:1"
    assert says(
        THRESHOLD
        + """
fake = FakeCuda(sf.__version__).install()
tried(lambda: step(0, 1, scope="global"))
tried(lambda: sf.select([ones(0), ones(1)], k=2))
tried(lambda: sf.kth_magnitude([ones(1), np.ones(4, np.float32)], 1))
tried(lambda: sf.threshold_step(np.ones(4, np.float32), ones(0), ones(0), lr=0.1, k=1))
tried(lambda: step(0, threshold=DeviceArray(np.ones(1), 1), k=None))
print(fake.launches)
"""
    ) == [
        f"ValueError: scope: one threshold needs one device, and of its parameters {where}",
        "ValueError: x[1]: expected memory on cuda:0 like x[0], got cuda:1",
        "ValueError: x[1]: expected memory on cuda:1 like x[0], got cpu",
        "ValueError: grads: expected memory on cpu like params, got cuda:0",
        f"ValueError: threshold: {wanted}, got float64 of shape (1,) on cuda:1",
        "[]",
    ]


def test_why_there_is_no_threshold_step() -> None:
    reason = "but this build has no CUDA kernels (see SUBGRAD_CUDA)"
    assert says(
        THRESHOLD
        + """
sys.modules["subgrad_fast._cuda"] = None
tried(lambda: step(0))
tried(lambda: sf.select(ones(0), k=2))
"""
    ) == [
        f"ValueError: params[0]: is on cuda:0, {reason}",
        f"ValueError: x: is on cuda:0, {reason}",
    ]
    assert (
        says(
            THRESHOLD
            + """
FakeCuda(sf.__version__, launch_error=719).install()
tried(lambda: step(0))
tried(lambda: sf.select(ones(0), threshold=0.5))
"""
        )
        == ["RuntimeError: CUDA on cuda:0: error 719"] * 2
    )
