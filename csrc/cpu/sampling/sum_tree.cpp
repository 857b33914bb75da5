#include "cpu/sampling/sum_tree.h"

#include "cpu/sampling/words.h"
#include "samplers/draw.h"

namespace subgrad {
namespace {

constexpr std::size_t kFan = 16;  // two cache lines of sums are looked through per level

}  // namespace

SumTree::SumTree(const double* weights, std::int64_t n, const WeightScale& scale) : scale_(scale) {
  const auto count = static_cast<std::size_t>(n);
  const auto padded = [](std::size_t size) { return (size + kFan - 1) / kFan * kFan; };
  std::vector<std::uint64_t> level(padded(count));
  for (std::size_t i = 0; i < count; ++i) level[i] = scale_(weights[i]);
  for (;;) {
    levels_.push_back(level);
    const std::vector<std::uint64_t>& below = levels_.back();
    const std::size_t parents = below.size() / kFan;
    if (below.size() == 1) return;
    level.assign(parents == 1 ? 1 : padded(parents), 0);
    for (std::size_t i = 0; i < below.size(); ++i) level[i / kFan] += below[i];
  }
}

void SumTree::set(std::uint64_t index, double weight) {
  const std::uint64_t change = scale_(weight) - levels_[0][index];  // modulo 2^64
  for (std::vector<std::uint64_t>& level : levels_) {
    level[index] += change;
    index /= kFan;
  }
}

bool SumTree::pick(std::uint64_t word, std::uint64_t& index) const {
  std::uint64_t left;
  if (!bounded(word, total(), left)) return false;
  index = 0;
  for (std::size_t depth = levels_.size() - 1; depth-- > 0;) {
    const std::uint64_t* sums = levels_[depth].data();
    index *= kFan;
    while (left >= sums[index]) left -= sums[index++];
  }
  return true;
}

void SumTree::draw(std::uint64_t key, std::uint64_t start, std::int64_t count,
                   std::int64_t* out) const {
  each_batch(key, 0, start, count,
             [&](std::int64_t i, const std::uint64_t* words, std::int64_t size) {
               for (std::int64_t j = 0; j < size; ++j) {
                 std::uint64_t index;
                 if (!pick(words[j], index)) {
                   index = redraw(*this, key, start + static_cast<std::uint64_t>(i + j));
                 }
                 out[i + j] = static_cast<std::int64_t>(index);
               }
             });
}

}  // namespace subgrad
