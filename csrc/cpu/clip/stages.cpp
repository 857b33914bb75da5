#include "cpu/clip/stages.h"

#include <algorithm>
#include <cmath>

#include "cpu/clip/norm.h"

namespace subgrad {
namespace {

// The sum of squares of a scope, and whether its coefficient is computed in f64: the widest type of
// a scope's gradients is the one that torch's norm of them has.
struct Scope {
  SquareSum sum;
  bool wide = false;
};

}  // namespace

bool measures(const std::vector<DenseGroup>& groups, const ClipOptions& options) {
  return options.measure || options.skip_nonfinite ||
         std::any_of(groups.begin(), groups.end(),
                     [](const DenseGroup& g) { return g.params.max_norm != kAbsent; });
}

bool clips(const std::vector<DenseGroup>& groups, const ClipOptions& options) {
  return options.grad_scale != 1.0 || options.found_inf || measures(groups, options) ||
         std::any_of(groups.begin(), groups.end(),
                     [](const DenseGroup& g) { return g.params.clip_value != kAbsent; });
}

Clipping clipping_of(const std::vector<Gradient>& gradients, const std::vector<int>& group_of,
                     const std::vector<DenseGroup>& groups, const ClipOptions& options,
                     const std::vector<Measured>& others, const SquareSums* squares) {
  Clipping clipping;
  clipping.looked = true;
  clipping.measured = measures(groups, options);
  SquareSums measured;
  if (clipping.measured && squares == nullptr) measured = square_sums(gradients);
  const SquareSums& found = squares != nullptr ? *squares : measured;
  const double unscale = 1.0 / options.grad_scale;

  // Calls visit(group, sum of squares, wide) for each gradient, those of others last.
  const auto each = [&](const auto& visit) {
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const bool wide = gradients[i].dtype == DType::f64;
      visit(static_cast<std::size_t>(group_of[i]), clipping.measured ? found[i] : SquareSum(),
            wide);
    }
    for (const Measured& m : others) visit(static_cast<std::size_t>(m.group), m.sum, m.wide);
  };
  const auto stage_of = [&](const SgdParams& params, const Scope& scope) {
    return subgrad::stage_of(params, unscale, scope.sum, scope.wide);
  };

  Scope all;
  std::vector<Scope> by_group(groups.size());
  each([&](std::size_t group, const SquareSum& sum, bool wide) {
    for (Scope* scope : {&all, &by_group[group]}) {
      scope->sum.add(sum);
      scope->wide = scope->wide || wide;
    }
  });
  if (clipping.measured) clipping.norm = norm_of(all.sum, unscale);
  clipping.skip = options.found_inf || (options.skip_nonfinite && !std::isfinite(all.sum.value));

  std::vector<GradientStage> stages;  // by group, where its tensors share one
  bool changes = options.scope == NormScope::tensor;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const Scope& scope = options.scope == NormScope::group ? by_group[g] : all;
    stages.push_back(stage_of(groups[g].params, scope));
    changes = changes || !stages[g].changes_nothing();
  }
  if (!changes) return clipping;
  clipping.stages.reserve(gradients.size() + others.size());
  each([&](std::size_t group, const SquareSum& sum, bool wide) {
    clipping.stages.push_back(options.scope == NormScope::tensor
                                  ? stage_of(groups[group].params, {sum, wide})
                                  : stages[group]);
  });
  return clipping;
}

}  // namespace subgrad
