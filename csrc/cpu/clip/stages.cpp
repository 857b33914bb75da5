#include "cpu/clip/stages.h"

#include <algorithm>
#include <cmath>

#include "cpu/clip/norm.h"
#include "rules/clip.h"

namespace subgrad {
namespace {

// Sums of squares by scope, and whether a coefficient of theirs is computed in f64: the widest type
// of a scope's gradients is the one that torch's norm of them has.
struct Scopes {
  std::vector<SquareSum> sums;
  std::vector<char> wide;

  explicit Scopes(std::size_t count) : sums(count), wide(count) {}
};

// A gradient as far as its norm goes.
struct Member {
  std::size_t group, scope;
  SquareSum sum;
  bool wide;
};

std::vector<Member> members_of(const std::vector<Gradient>& gradients,
                               const std::vector<int>& group_of,
                               const std::vector<SquareSum>& found,
                               const std::vector<Measured>& others, NormScope scope) {
  std::vector<Member> members;
  members.reserve(gradients.size() + others.size());
  const auto add = [&](int group, const SquareSum& sum, bool wide) {
    const auto g = static_cast<std::size_t>(group);
    const std::size_t s = scope == NormScope::global  ? 0
                          : scope == NormScope::group ? g
                                                      : members.size();
    members.push_back({g, s, sum, wide});
  };
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    add(group_of[i], found.empty() ? SquareSum() : found[i], gradients[i].dtype == DType::f64);
  }
  for (const Measured& m : others) add(m.group, {m.sum}, m.wide);
  return members;
}

std::size_t scope_count(NormScope scope, std::size_t groups, std::size_t members) {
  return scope == NormScope::global ? 1 : scope == NormScope::group ? groups : members;
}

bool needs_norm(const std::vector<DenseGroup>& groups, const ClipOptions& options) {
  return options.measure || options.skip_nonfinite ||
         std::any_of(groups.begin(), groups.end(),
                     [](const DenseGroup& g) { return g.params.max_norm != kAbsent; });
}

}  // namespace

bool clips(const std::vector<DenseGroup>& groups, const ClipOptions& options) {
  return options.grad_scale != 1.0 || needs_norm(groups, options) ||
         std::any_of(groups.begin(), groups.end(),
                     [](const DenseGroup& g) { return g.params.clip_value != kAbsent; });
}

Clipping clipping_of(const std::vector<Gradient>& gradients, const std::vector<int>& group_of,
                     const std::vector<DenseGroup>& groups, const ClipOptions& options,
                     const std::vector<Measured>& others) {
  Clipping clipping;
  clipping.measured = needs_norm(groups, options);
  const std::vector<SquareSum> found =
      clipping.measured ? square_sums(gradients) : std::vector<SquareSum>();
  const std::vector<Member> members = members_of(gradients, group_of, found, others, options.scope);

  const double unscale = 1.0 / options.grad_scale;
  Scopes scopes(scope_count(options.scope, groups.size(), members.size()));
  SquareSum all;
  for (const Member& m : members) {
    scopes.sums[m.scope].add(m.sum);
    scopes.wide[m.scope] |= static_cast<char>(m.wide);
    all.add(m.sum);
  }
  if (clipping.measured) clipping.norm = all.norm() * std::fabs(unscale);
  clipping.skip = options.skip_nonfinite && !std::isfinite(all.value);

  bool changes = false;
  for (const Member& m : members) {
    const SgdParams& params = groups[m.group].params;
    GradientStage stage{unscale, params.clip_value};
    if (params.max_norm != kAbsent) {
      const double norm = scopes.sums[m.scope].norm() * std::fabs(unscale);
      stage.scale *= scopes.wide[m.scope]
                         ? clip_coefficient<double>(norm, params.max_norm)
                         : static_cast<double>(clip_coefficient<float>(norm, params.max_norm));
    }
    changes = changes || !stage.changes_nothing();
    clipping.stages.push_back(stage);
  }
  if (!changes) clipping.stages.clear();
  return clipping;
}

}  // namespace subgrad
