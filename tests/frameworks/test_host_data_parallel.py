"""What DataParallel promises (P2 to P15), of the host's and, where GPUs are, of the real one."""

import threading
import warnings
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel
from torch.nn.parallel.parallel_apply import parallel_apply

from conformance.frameworks.torch.host_data_parallel import HostDataParallel, rebound


class Pair(NamedTuple):
    left: Any
    right: Any


class Parallel:
    """One way to have a DataParallel: `wrap` makes it, `place` puts a tensor on its device 0."""

    def __init__(self, kind):
        self.kind = kind
        self.device = "cpu" if kind == "host" else "cuda:0"

    def wrap(self, module, replicas, dim=0):
        if self.kind == "host":
            return HostDataParallel(module, replicas, dim)
        if torch.cuda.device_count() < replicas:
            pytest.skip(f"needs {replicas} GPUs, and here are {torch.cuda.device_count()}")
        return DataParallel(module.to(self.device), list(range(replicas)), dim=dim)

    def place(self, tensor):
        return tensor.to(self.device)

    def values(self, *shape):
        return torch.arange(1.0, 1 + torch.Size(shape).numel(), device=self.device).view(shape)


@pytest.fixture(params=["host", "cuda"])
def parallel(request):
    if request.param == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("the real DataParallel needs two GPUs to be parallel")
    return Parallel(request.param)


class WordyTorch:
    @staticmethod
    def add(x, y):
        return f"{x} + {y}"


class Call(nn.Module):
    """A module without parameters that calls a function with itself and its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs, **kwargs):
        return self.function(self, *inputs, **kwargs)


def size(_self, x):
    return x.new_tensor([x.shape[0]])


class Scale(nn.Module):
    """x·w with a single weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize(
    ("batch", "replicas", "chunks"),
    [
        (4, 2, [2, 2]),
        (3, 2, [2, 1]),
        (1, 2, [1]),
        (5, 4, [2, 2, 1]),
        (9, 4, [3, 3, 3]),
        (8, 3, [3, 3, 2]),
        (3, 4, [1, 1, 1]),
    ],
)
def test_p3_p4_chunks_are_the_ceiling_of_batch_over_devices(parallel, batch, replicas, chunks):
    net = parallel.wrap(Call(size), replicas)
    assert net(parallel.values(batch, 3)).tolist() == chunks


def test_p2_one_device_calls_the_module_itself(parallel):
    seen = []
    module = Call(lambda self, x: seen.append((self, threading.current_thread())) or x)
    x = parallel.values(5, 2)
    assert torch.equal(parallel.wrap(module, 1)(x), x)
    assert seen == [(module, threading.main_thread())]


def test_a_module_without_inputs_runs_once_on_device_0(parallel):
    net = parallel.wrap(Call(lambda _self: parallel.values(1)), 2)
    assert net().tolist() == [1.0]


def test_p5_nested_containers_are_scattered_and_gathered_in_their_own_types(parallel):
    def shape_kept(_self, given):
        assert [type(part) for part in given.values()] == [tuple, list, Pair]
        return {key: type(part)(*part) if key == "pair" else part for key, part in given.items()}

    x, y = parallel.values(5, 2), 10 * parallel.values(5, 3)
    given = {"tuple": (x, y), "list": [y, [x]], "pair": Pair(left=x, right=y)}
    back = parallel.wrap(Call(shape_kept), 2)(given)
    assert list(back) == ["tuple", "list", "pair"]
    assert isinstance(back["pair"], Pair)
    assert isinstance(back["list"][1], list)
    for given_part, part in [
        (x, back["tuple"][0]),
        (y, back["tuple"][1]),
        (y, back["list"][0]),
        (x, back["list"][1][0]),
        (y, back["pair"].right),
    ]:
        assert torch.equal(part, given_part)


def test_p5_other_objects_are_shared_by_every_replica(parallel):
    shared, seen = object(), []
    module = Call(lambda _self, x, other: seen.append(other) or x)
    parallel.wrap(module, 2)(parallel.values(4, 1), shared)
    assert seen == [shared, shared]


def test_p5_keyword_arguments_are_scattered_too(parallel):
    net = parallel.wrap(Call(lambda _self, x, *, factor, sign: sign * x * factor), 2)
    x = parallel.values(5, 2)
    assert torch.equal(net(x, factor=x, sign=-1), -x * x)


def test_p5_keyword_arguments_alone_are_enough(parallel):
    x = parallel.values(5, 2)
    assert torch.equal(parallel.wrap(Call(lambda _self, *, x: x + 1), 2)(x=x), x + 1)


@pytest.mark.parametrize("by_name", [False, True])
def test_p6_the_shorter_input_decides_and_the_rest_is_dropped_without_a_word(parallel, by_name):
    """Lengths 5 and 1 over 2: the chunks 3, 2 and 1, so one replica runs, on rows 0 to 2."""
    long, short = parallel.values(5, 1), parallel.values(1, 1)
    net = parallel.wrap(Call(lambda _self, x, _y=None: x), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = net((long, short)) if by_name else net(long, short)
    kept = out[0] if by_name else out
    assert torch.equal(kept, long[:3])


def test_p6_the_rest_is_dropped_from_the_batch_of_four_replicas_too(parallel):
    net = parallel.wrap(Call(lambda _self, x, _y: x), 4)
    assert net(parallel.values(8, 1), parallel.values(5, 1)).flatten().tolist() == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_p6_a_longer_keyword_argument_leaves_replicas_without_the_positional_one(parallel):
    """pytorch/pytorch#31460: a plain object counts as one piece per device, so B < D fails."""
    net = parallel.wrap(Call(lambda _self, x, *, delta=2: x + delta), 2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        net(parallel.values(1), delta=3)
    assert net(parallel.values(2), delta=3).tolist() == [4, 5]


def test_p6_a_shorter_keyword_argument_is_an_error_or_lacks_without_a_word(parallel):
    """pytorch/pytorch#33185: replicas are compared with how many positional arguments there are."""
    net = parallel.wrap(Call(lambda _self, x, *_, factor=None: x * (0 if factor is None else 1)), 2)
    x, factor = parallel.values(4), parallel.values(1)
    with pytest.raises(
        AssertionError, match="modules 2 is not equal to the number of kwargs_tup 1"
    ):
        net(x, factor=factor)
    assert net(x, x, factor=factor).tolist() == [1, 2, 0, 0]


def test_p7_a_0d_tensor_cannot_be_scattered(parallel):
    net = parallel.wrap(Call(lambda _self, x: x), 2)
    with pytest.raises(RuntimeError, match="at least a 1-dimensional tensor"):
        net(parallel.place(torch.tensor(1.0)))


def test_p8_a_parameter_on_another_device_is_an_error(parallel):
    net = parallel.wrap(nn.Linear(2, 2), 2)
    net.module.weight = nn.Parameter(torch.empty(2, 2, device="meta"))
    with pytest.raises(
        RuntimeError,
        match=rf"on device {parallel.device} \(device_ids\[0\]\) .* on device: meta",
    ):
        net(parallel.values(4, 2))


def test_p8_a_buffer_on_another_device_is_an_error(parallel):
    net = parallel.wrap(nn.BatchNorm1d(2), 2)
    net.module.running_mean = torch.empty(2, device="meta")
    with pytest.raises(RuntimeError, match="parameters and buffers"):
        net(parallel.values(4, 2))


def test_p8_the_input_may_lie_on_the_cpu(parallel):
    x = torch.arange(5.0)
    assert parallel.wrap(Scale(), 2)(x).tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("dim", [0, 1])
def test_p9_outputs_are_concatenated_along_dim(parallel, dim):
    x = parallel.values(3, 5, 2)
    net = parallel.wrap(Call(lambda _self, x: x + x.shape[dim]), 2, dim)
    first, second = x.chunk(2, dim)
    expected = torch.cat([first + first.shape[dim], second + second.shape[dim]], dim)
    assert torch.equal(net(x), expected)


def test_p9_0d_outputs_become_a_vector_with_a_warning(parallel):
    net = parallel.wrap(Call(lambda _self, x: x.sum()), 2)
    with pytest.warns(UserWarning, match="all input tensors were scalars"):
        out = net(parallel.values(5))
    assert out.tolist() == [6, 9]


def test_p9_gradients_pass_through_the_vector_of_0d_outputs(parallel):
    net = parallel.wrap(Scale(), 2)
    total = parallel.wrap(Call(lambda _self, x: x.sum()), 2)
    with pytest.warns(UserWarning, match="scalars"):
        total(net(parallel.values(5))).mul(
            parallel.place(torch.tensor([1.0, 10.0]))
        ).sum().backward()
    assert net.module.weight.grad.item() == 6 + 90


def test_p9_an_output_of_none_stays_none(parallel):
    net = parallel.wrap(Call(lambda _self, x: (x, None)), 2)
    assert net(parallel.values(4))[1] is None


def test_p10_the_gradients_of_the_replicas_are_summed(parallel):
    net = parallel.wrap(Scale(), 4)
    net(parallel.values(9)).sum().backward()
    assert net.module.weight.grad.item() == 45


def test_p10_a_tied_weight_gets_the_sum_over_uses_and_replicas(parallel):
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    nn.init.constant_(module[0].weight, 2.0)
    x = parallel.values(5, 2)
    alone = parallel.place(module)
    alone(x).sum().backward()
    expected = alone[0].weight.grad.clone()
    alone.zero_grad()
    parallel.wrap(module, 2)(x).sum().backward()
    assert torch.equal(module[0].weight.grad, expected)
    assert module[1].weight.grad is module[0].weight.grad


def test_p10_the_sum_over_replicas_is_in_device_order():
    """From the left, 1 is lost in 2^24 before that is cancelled; from the right it would stay."""
    net = HostDataParallel(Scale(), 3)
    net(torch.tensor([1.0, 2.0**24, -(2.0**24)])).sum().backward()
    assert net.module.weight.grad.item() == 0


@pytest.mark.parametrize("dim", [0, 1])
def test_p10_the_input_gets_its_gradient_back_in_one_piece(parallel, dim):
    x = parallel.values(5, 3).requires_grad_()
    parallel.wrap(Call(lambda _self, x: x * x), 2, dim)(x).sum().backward()
    assert torch.equal(x.grad, 2 * x)


def test_p10_a_frozen_parameter_stays_frozen_in_every_replica(parallel):
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            seen.append((self.weight.requires_grad, self.bias.requires_grad))
            return super().forward(x)

    module = Watched(2, 1)
    module.bias.requires_grad_(requires_grad=False)
    parallel.wrap(module, 2)(parallel.values(4, 2)).sum().backward()
    assert seen == [(True, False)] * 2
    assert module.bias.grad is None
    assert module.weight.grad.flatten().tolist() == [16, 20]


def test_p11_an_attribute_set_in_forward_is_lost(parallel):
    def count(self, x):
        self.counter += 1
        return x

    module = Call(count)
    module.counter = 0
    parallel.wrap(module, 2)(parallel.values(4))
    assert module.counter == 0


def test_p11_replica_0_leaves_its_running_statistics(parallel):
    module = nn.BatchNorm1d(1, momentum=1.0)
    parallel.wrap(module, 2)(parallel.place(torch.tensor([[1.0], [3.0], [10.0], [30.0]])))
    assert module.running_mean.tolist() == [2]
    assert module.running_var.tolist() == [2]
    assert module.num_batches_tracked.item() == 1


def test_p11_only_replica_0_shares_storage_with_the_module(parallel):
    module = Scale()
    net = parallel.wrap(module, 2)
    with torch.no_grad():
        first, second = net.replicate(module, net.device_ids)
    assert first.weight.data_ptr() == module.weight.data_ptr()
    assert second.weight.data_ptr() != module.weight.data_ptr()


def test_p11_only_replica_0_can_write_to_the_input(parallel):
    x = parallel.values(5)
    parallel.wrap(Call(lambda _self, x: x.zero_()), 2)(x)
    assert x.tolist() == [0, 0, 0, 4, 5]


def test_p12_hooks_run_once_per_replica(parallel):
    calls = []
    module = Scale()
    module.register_forward_pre_hook(lambda *_: calls.append("before"))
    module.register_forward_hook(lambda *_: calls.append("forward"))
    module.register_full_backward_hook(lambda *_: calls.append("backward"))
    x = parallel.values(4).requires_grad_()
    parallel.wrap(module, 2)(x).sum().backward()
    assert sorted(calls) == sorted(["before", "forward", "backward"] * 2)


def test_p13_a_replica_has_no_parameters_and_its_weights_are_no_leaves(parallel):
    seen = []

    class Watched(Scale):
        def forward(self, x):
            seen.append((list(self.parameters()), self.weight.is_leaf, self.weight.requires_grad))
            return super().forward(x)

    parallel.wrap(Watched(), 2)(parallel.values(4))
    assert seen == [([], False, True)] * 2


def test_p14_the_loss_on_the_gathered_output_is_the_global_mean(parallel):
    net = parallel.wrap(Scale(), 2)
    net(parallel.values(3) * 2).mean().backward()  # 2, 4 | 6
    assert net.module.weight.grad.item() == 4


def test_p14_the_loss_inside_forward_gives_the_mean_of_the_chunk_means(parallel):
    class MeanInside(Scale):
        def forward(self, x):
            return super().forward(x).mean()

    net = parallel.wrap(MeanInside(), 2)
    with pytest.warns(UserWarning, match="scalars"):
        net(parallel.values(3) * 2).mean().backward()  # (2 + 4)/2 = 3 | 6
    assert net.module.weight.grad.item() == 4.5


def test_p15_state_dict_keys_begin_with_module(parallel):
    net = parallel.wrap(nn.BatchNorm1d(2), 2)
    assert list(net.state_dict()) == [f"module.{name}" for name in net.module.state_dict()]


def test_autocast_reaches_every_replica(parallel):
    net = parallel.wrap(Call(lambda _self, x: x @ x.mT), 2)
    x = parallel.values(4, 2, 2)
    kind = x.device.type
    with torch.autocast(kind):
        assert net(x).dtype == torch.get_autocast_dtype(kind)
    assert net(x).dtype == torch.float32


def test_no_grad_reaches_every_replica(parallel):
    seen = []
    net = parallel.wrap(Call(lambda _self, x: seen.append(torch.is_grad_enabled()) or x), 2)
    with torch.no_grad():
        net(parallel.values(4))
    net(parallel.values(4))
    assert seen == [False, False, True, True]


def test_an_error_in_a_replica_says_where_it_was_caught(parallel):
    def refuse(_self, x):
        raise ValueError(f"{x.shape[0]} rows")

    net = parallel.wrap(Call(refuse), 2)
    with pytest.raises(ValueError, match="Caught ValueError in replica 0 on device 0") as caught:
        net(parallel.values(4))
    assert "ValueError: 2 rows" in str(caught.value)


def test_double_backward_is_the_sum_over_replicas(parallel):
    net = parallel.wrap(Scale(), 2)
    x = parallel.values(3)
    y = net(x) ** 2  # d²/dw² Σ (w·x)² = 2 Σ x²
    weight = net.module.weight
    (first,) = torch.autograd.grad(y.sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first, weight)
    assert second.item() == 28


def test_complex_parameters_are_replicated(parallel):
    module = Scale()
    module.weight = nn.Parameter(torch.tensor(1j))
    x = parallel.values(4).to(torch.complex64)
    assert torch.equal(parallel.wrap(module, 2)(x), x * 1j)


def test_p1_without_a_gpu_the_real_one_passes_through():
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator here")
    seen = []
    net = DataParallel(Call(lambda self, x: seen.append(self) or x))
    net(torch.ones(4))
    assert net.device_ids == []
    assert seen == [net.module]


def test_forward_is_torch_s_own():
    assert HostDataParallel.forward is DataParallel.forward


def test_torch_s_own_functions_stay_as_they_are():
    assert parallel_apply.__globals__["torch"] is torch
    assert HostDataParallel.parallel_apply.__code__ is DataParallel.parallel_apply.__code__
    assert HostDataParallel.parallel_apply is not DataParallel.parallel_apply


def test_a_rebound_function_keeps_its_defaults():
    def add(x, y=2, *, z=3):
        return torch.add(x, y + z)

    assert rebound(add, torch=WordyTorch)(1) == "1 + 5"


def test_a_swap_that_this_torch_would_not_see_is_an_error_with_its_name():
    with pytest.raises(ImportError, match=r"parallel_apply .* does not use 'Scatter'"):
        rebound(parallel_apply, Scatter=None)
    with pytest.raises(ImportError, match=r"parallel_apply .* does not use 'current_lane'"):
        rebound(parallel_apply, ("current_lane",), torch=torch)
    with pytest.raises(ImportError, match=r"parallel_apply .* does not use 'accelerator'"):
        rebound(parallel_apply, accelerator=None)  # an attribute, not a global


def test_a_new_need_of_parallel_apply_is_an_error_with_its_name():
    proxy = HostDataParallel.parallel_apply.__globals__["parallel_apply"].__globals__["torch"]
    assert proxy.is_grad_enabled is torch.is_grad_enabled
    with pytest.raises(AttributeError, match="synchronize"):
        _ = proxy.accelerator.synchronize


def test_no_replica_at_all_is_an_error():
    with pytest.raises(ValueError, match="replicas must be at least 1, not 0"):
        HostDataParallel(Scale(), 0)
