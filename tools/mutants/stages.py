"""Faults for steps with stages: what becomes of gradients on their way, skips, counts, averages."""

from . import Mutant

TESTS = ("test_stages.py", "test_dense_launches.py", "test_streams.py")
STEP = "cuda/dense_step.cuh"
STAGED = "cuda/dense_staged.cu"
CLIP = "cuda/clip.cuh"
MUTANTS = [
    Mutant("found-inf-ignored", CLIP, "*clip.found_inf != 0.0f", "*clip.found_inf > 1.0f"),
    Mutant("scale-not-inverted", CLIP, "return 1.0 / ", "return 1.0 * "),
    Mutant("scale-on-the-device-ignored", CLIP, "clip.grad_scale_on_device != nullptr", "false"),
    Mutant("skip-ignored", CLIP, "return clip.skip_nonfinite &&", "return false &&"),
    Mutant("skip-of-nan-forgotten", CLIP, "!isfinite(clip.sums->value)", "isinf(clip.sums->value)"),
    Mutant("gradient-not-scaled", STEP, "limited ? 1.0 : stage.scale", "1.0"),
    Mutant("gradient-scaled-twice", STEP, "limited ? 1.0 : stage.scale", "stage.scale"),
    Mutant("limit-forgotten", STEP, "limited = stage.limit != kAbsent;", "limited = false;"),
    Mutant("norm-forgotten", STEP, "how.sums != nullptr ?", "how.sums == nullptr ?"),
    Mutant("first-average-moved", STEP, "first_average ? wv[k + j] :", "false ? wv[k + j] :"),
    Mutant("average-not-read", STEP, "if (!first_average) pack =", "if (first_average) pack ="),
    Mutant(
        "average-of-another-chunk",
        STEP,
        "static_cast<typename Work::C*>(s.average) + begin",
        "static_cast<typename Work::C*>(s.average)",
    ),
    Mutant("average-of-another-pack", STEP, "average + at[u], wv", "average + at[0], wv"),
    Mutant(
        "average-of-another-part", STEP, "pack_at<part>(e + k) = pack;", "pack_at<part>(e) = pack;"
    ),
    Mutant(
        "average-alignment-not-checked",
        STAGED,
        "s.packed && aligned_to(t.average->data,",
        "s.packed && aligned_to(t.param,",
    ),
    Mutant("first-rule-forgotten", STEP, "if (first) work.rule = s.first_rule;", ""),
    Mutant(
        "momentum-counted-too-early",
        STEP,
        "s.counts->momentum_before == 0",
        "s.counts->momentum == 0",
    ),
    Mutant(
        "average-counted-as-momentum",
        STEP,
        "s.counts->average_before == 0",
        "s.counts->momentum_before == 0",
    ),
    Mutant("skipped-steps-counted", STAGED, "skips(list.clip) ? 0 : 1", "1"),
    Mutant("momentum-not-counted", STAGED, "if (item.momentum) counts.momentum += taken;", ""),
    Mutant(
        "counts-begin-with-nothing",
        STAGED,
        "{momentum, momentum, average, average}",
        "{0, 0, 0, 0}",
    ),
    Mutant("scope-of-another-tensor", STAGED, "sum_of_gradient(groups_, static_cast<int>(i))", "0"),
    Mutant("coefficient-always-narrow", STAGED, "any_wide_ = true;", "any_wide_ = false;"),
    Mutant("coefficient-of-a-tensor-narrow", STAGED, ": is_wide(i);", ": false;"),
]
