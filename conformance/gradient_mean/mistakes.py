"""The known mistakes in averaging gradients, in words; `wrong_averages` computes their answers."""

from conformance.core.mistake import Mistake
from conformance.gradient_mean import wrong_averages as ways
from conformance.gradient_mean import wrong_groups as groups
from conformance.gradient_mean import wrong_steps as steps
from conformance.gradient_mean.wrong_averages import Wrong


def _mistake(
    name: str, done: str, advice: str, wrong: Wrong, *, is_by_element: bool = False
) -> Mistake[Wrong]:
    return Mistake(name, "gradient_mean", done, advice, wrong, is_by_element=is_by_element)


MISTAKES: tuple[Mistake[Wrong], ...] = (
    _mistake(
        "not-divided",
        "the ranks' gradients are summed and not divided by W",
        "Divide by the world size once, after the all-reduce or before; in shard_map with "
        "check_vma=True the gradient of a replicated parameter is summed already, so average the "
        "loss, or pcast the parameters to varying before you pmean the gradient.",
        ways.not_divided,
    ),
    _mistake(
        "divided-twice",
        "the mean is divided by W once more",
        "DDP and pmean divide already: do not divide the loss or the gradient by W as well.",
        ways.divided_twice,
    ),
    _mistake(
        "squared-world",
        "what was summed over ranks already is summed again: W² times the mean",
        "In shard_map with check_vma=True a psum of the gradient sums it a second time.",
        ways.squared_world,
    ),
    _mistake(
        "never-synchronised",
        "every rank holds its own gradient",
        "Call the DDP wrapper, not .module; leave no_sync before the last forward; or all-reduce "
        "the gradients yourself.",
        ways.never_synchronised,
    ),
    _mistake(
        "shard-0-returned",
        "all ranks hold the gradient of rank 0's shard",
        "All-reduce the gradients; a broadcast is none, and out_specs=P() with check_vma=False "
        "returns what shard 0 has.",
        ways.shard_0_returned,
    ),
    _mistake(
        "psum-loss-unsynchronised",
        "a rank's own gradient, W times: that of a loss that was summed over ranks",
        "Differentiate the local loss and pmean its gradient; the gradient of a psum inside pmap "
        "is not synchronised.",
        ways.psum_loss_unsynchronised,
    ),
    _mistake(
        "sum-loss",
        "the loss sums over the samples where it is to average",
        'Use reduction="mean", or divide by the number of samples.',
        ways.sum_loss,
    ),
    _mistake(
        "accumulation-unscaled",
        "the gradient is divided by K, or multiplied, against what is promised",
        "Micro-batches add up here: divide the loss by K only where a mean over micro-batches is "
        "asked for.",
        ways.accumulation_unscaled,
    ),
    _mistake(
        "last-micro-batch-only",
        "only the last micro-batch counts",
        "Set gradients to zero once, before the first micro-batch, and add up.",
        ways.last_micro_batch_only,
    ),
    _mistake(
        "no-sync-around-backward-only",
        "gradients are averaged in every backward, what earlier ones averaged among them",
        "no_sync() must hold the forward as well as the backward; with the backward alone inside, "
        "each of the K backwards all-reduces, and where W is no power of two each rounds anew.",
        ways.no_sync_around_backward_only,
        is_by_element=True,
    ),
    _mistake(
        "synchronised-too-early",
        "the first micro-batch is averaged over ranks, and what follows is each rank's own",
        "Synchronise in the last backward: the others are in no_sync(), the last one is not. A "
        "counter that begins at 0 is at its end at K − 1.",
        steps.synchronised_too_early,
    ),
    _mistake(
        "short-window-divided-by-k",
        "the last window has fewer micro-batches than the others, and is divided by as many",
        "Divide by the number of micro-batches that the window has; or count items, of all of "
        "them, and divide by that.",
        steps.short_window_divided_by_k,
    ),
    _mistake(
        "stale-gradient",
        "the last step's gradient is still in this one's, or in its place",
        "Set gradients to zero after every step, before the first backward of the next; start an "
        "accumulator anew with every window.",
        steps.stale_gradient,
    ),
    _mistake(
        "mean-of-micro-means",
        "the means of micro-batches are averaged, where every item of the step is to count the "
        "same",
        "Count the items of all micro-batches before the first backward, sum the losses, and "
        "divide by that count once.",
        steps.mean_of_micro_means,
    ),
    _mistake(
        "local-count",
        "every rank divides by the items that it has itself, and ranks are averaged",
        "All-reduce the count; as DDP and FSDP divide by W, multiply the sum of losses by W/N.",
        steps.local_count,
    ),
    _mistake(
        "one-count-for-all-terms",
        "a loss has several terms and one count: another term is divided by that too, or by what "
        "each rank or micro-batch has itself",
        "Count every term's own items over all ranks and micro-batches of the step, and divide "
        "each term's sum by its own count: Σ over terms of W/N_term · sum_term under DDP.",
        steps.one_count_for_all_terms,
    ),
    _mistake(
        "sample-share-for-token-share",
        "means over tokens are weighed by their share of the samples",
        "Weigh a mean by the number of items that it is over, which are tokens and not sequences.",
        steps.sample_share_for_token_share,
    ),
    _mistake(
        "other-windows-count",
        "the sum over the step is divided by the number of items of other micro-batches than its "
        "own",
        "Count exactly the micro-batches whose gradients are in the step: not a generation batch, "
        "not the first one times K, not the last window.",
        steps.other_windows_count,
    ),
    _mistake(
        "shifted-labels-counted",
        "the position of each sequence that has no next token is counted: N plus the number of "
        "sequences",
        "Count labels after the shift: (labels[:, 1:] != -100).sum().",
        steps.shifted_labels_counted,
    ),
    _mistake(
        "gathered-without-gradient",
        "of a loss that couples ranks each rank differentiates its own outputs alone: 1/W of the "
        "gradient",
        "Gather with torch.distributed.nn.functional.all_gather, whose backward brings what other "
        "ranks' losses owe to this one's outputs; dist.all_gather and all_reduce have none.",
        steps.gathered_without_gradient,
    ),
    _mistake(
        "averaged-over-one-axis",
        "of two data axes one is left out, is not divided by, or is divided by twice",
        "Average over all ranks of both axes. With HSDP a divide factor of fully_shard is that of "
        "its own axis in some versions, and replicas are averaged all the same: measure it. In JAX "
        'name both axes: lax.pmean(g, ("replicate", "shard")).',
        groups.averaged_over_one_axis,
    ),
    _mistake(
        "experts-scaled-by-the-group",
        "experts' gradients have a factor of a group's size that the others' have not",
        "An expert's gradient holds the tokens of all ranks that sent it some: reduce it over the "
        "ranks that share the expert, and divide by W as everywhere, not by their number.",
        groups.experts_scaled_by_the_group,
    ),
    _mistake(
        "moved-after-wrapping",
        "each rank holds its own gradient of some layers, and the mean of the others",
        "Move, cast, replace and unfreeze parameters before DDP wraps the model: it averages what "
        "it knew then. Wrap the whole model, and call nothing past the wrapper.",
        groups.moved_after_wrapping,
    ),
    _mistake(
        "used-in-an-earlier-micro-batch",
        "each rank holds its own gradient of what the last micro-batch did not use",
        "Reduce every parameter that any micro-batch of the step has reached, not what the last "
        "backward reaches: give DDP find_unused_parameters=True in a version that counts what "
        "no_sync() accumulated, or sum the losses and call backward once.",
        groups.used_in_an_earlier_micro_batch,
    ),
    _mistake(
        "loss-scale-of-its-own",
        "gradients are averaged under another scale on each rank, which divides by its own",
        "Ranks must have one loss scale: reduce the flag of an overflow over all ranks before any "
        "of them changes its scale, or unscale before the all-reduce.",
        groups.loss_scale_of_its_own,
    ),
    _mistake(
        "step-skipped-by-one-rank",
        "one rank has no gradient, where the others have the right one",
        "Whether a step is skipped is decided by all ranks together: wait for the reduction of the "
        "flag before you read it.",
        groups.step_skipped_by_one_rank,
    ),
    _mistake(
        "world-left-in",
        "the mean over the step times W: a factor against a division that nobody makes",
        "Multiply by W where DDP or FSDP divides by it, and nowhere else: not with a hook or a "
        "divide factor that sums, nor with an all-reduce of one's own.",
        steps.world_left_in,
    ),
    _mistake(
        "micro-batches-left-in",
        "the mean over the step times K: a factor against a division that nobody makes",
        "Multiply by K only what a trainer divides by K; one that was told the count divides by "
        "that alone.",
        steps.micro_batches_left_in,
    ),
    _mistake(
        "mean-of-means",
        "every rank weighs the same where every sample is to",
        "Weigh each rank's loss by its number of samples, divided by that of all.",
        ways.mean_of_means,
    ),
    _mistake(
        "padding-counted",
        "samples that only fill up a shard are counted",
        "Divide by the number of real samples: psum of the sums over psum of the counts.",
        ways.padding_counted,
    ),
    _mistake(
        "tail-dropped",
        "samples at the end of a shard or of the batch are left out",
        "Look at drop_last, at integer division of the batch size, and at inputs of unequal "
        "length, the shortest of which decides.",
        ways.tail_dropped,
    ),
    _mistake(
        "rank-missing",
        "one rank's share is absent",
        "See that every rank of the group takes part in the all-reduce, and what a loop over "
        "ranks begins with.",
        ways.rank_missing,
    ),
    _mistake(
        "initial-broadcast-missing",
        "ranks compute their gradients with parameters of their own",
        "Broadcast rank 0's parameters and buffers before the first step, as DDP does when it is "
        "constructed; where your script does so elsewhere, do it in the function that is asked.",
        ways.initial_broadcast_missing,
    ),
    _mistake(
        "clipped-before-averaging",
        "every rank's gradient is clipped to norm 1, and then averaged",
        "Clip the averaged gradient.",
        ways.clipped_before_averaging,
    ),
    _mistake(
        "clipped-in-every-micro-batch",
        "what is accumulated is clipped to norm 1 after every micro-batch",
        "Clip once, before the optimizer's step, what all micro-batches have added up to.",
        groups.clipped_in_every_micro_batch,
    ),
    _mistake(
        "norm-summed-over-replicas",
        "the norm that a gradient is clipped by counts each replica's copy: √R too large",
        "Sum squares over the ranks that have different shards, and over no replicas; what every "
        "rank holds whole needs no reduction.",
        groups.norm_summed_over_replicas,
    ),
    _mistake(
        "compressed",
        "gradients went through float16 or bfloat16 on their way between ranks",
        "Leave out the compression hook, or accept what it does to small and large gradients.",
        ways.compressed,
    ),
    _mistake(
        "shared-dropout-key",
        "the same noise on every rank",
        "Seed every rank's generator apart, or fold the rank's index into the key: "
        "jax.random.fold_in(key, lax.axis_index(axis)).",
        ways.shared_dropout_key,
    ),
    _mistake(
        "local-batch-statistics",
        "batch norms use their rank's statistics where those of the whole batch are promised",
        "Use SyncBatchNorm, or reduce mean and variance over the ranks.",
        ways.local_batch_statistics,
    ),
    _mistake(
        "statistics-of-ranks-averaged",
        "a synchronised batch norm averages the ranks' statistics, which are of unequal numbers "
        "of samples",
        "Reduce sums, sums of squares and counts over the ranks, and divide by the sum of counts.",
        groups.statistics_of_ranks_averaged,
    ),
    _mistake(
        "ranks-counted-in-dtype",
        "ranks are counted by adding up ones in the gradients' own dtype, which stops at 256 in "
        "bfloat16 and at 2,048 in float16",
        "Take W from the group or the mesh (lax.axis_size), or count in int32 or float32.",
        ways.at_scale_alone,
    ),
    _mistake(
        "summed-in-dtype",
        "the sum over ranks is held in the gradients' own dtype: in bfloat16 it swallows what is "
        "2^8 times smaller, in float16 what is 2^11 times smaller, and float16 ends at 65,504",
        "Sum in float32 and round once; to divide by W before the sum keeps it from overflowing.",
        ways.at_scale_alone,
    ),
    _mistake(
        "pass-through",
        "the gradient is that of the whole batch at once, as a single device gives it",
        "DataParallel without two GPUs passes its input straight through: nothing is parallel. "
        "Give every rank its own samples. Where the work is shared out after all, and each sample "
        "is to count the same, what you promise is sample_mean: declare that.",
        ways.pass_through,
    ),
)
