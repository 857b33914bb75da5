#include "cpu/sampling/draws.h"

#include <numeric>

#include "cpu/sampling/words.h"
#include "samplers/draw.h"

namespace subgrad {
namespace {

// The stream of the rows drawn within a class, beside that of the classes.
constexpr std::uint32_t kMemberStream = 1;

}  // namespace

void uniform_draws(std::uint64_t key, std::uint64_t start, std::int64_t count, std::uint64_t n,
                   std::int64_t* out) {
  const UniformPicker picker{n};
  each_batch(key, 0, start, count,
             [&](std::int64_t i, const std::uint64_t* words, std::int64_t size) {
               for (std::int64_t j = 0; j < size; ++j) {
                 std::uint64_t value;
                 if (!picker.pick(words[j], value)) {
                   value = redraw(picker, key, start + static_cast<std::uint64_t>(i + j));
                 }
                 out[i + j] = static_cast<std::int64_t>(value);
               }
             });
}

void choose(std::uint64_t n, std::uint64_t key, std::uint64_t stream, std::int64_t k,
            std::int64_t* out) {
  std::iota(out, out + k, std::int64_t{0});
  kernels().permute(make_permutation(n, key, stream), reinterpret_cast<std::uint64_t*>(out), k);
}

void Strata::turns(std::uint64_t key, const std::int64_t* classes, const std::int64_t* turns,
                   std::int64_t count, std::int64_t* out) const {
  constexpr std::uint64_t none = ~std::uint64_t{0};
  struct Current {
    std::uint64_t round = none;
    Permutation order;
  };
  std::vector<std::int32_t> where(starts_.size(), -1);
  std::vector<Current> current;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto c = static_cast<std::uint64_t>(classes[i]);
    const auto turn = static_cast<std::uint64_t>(turns[i]);
    if (where[c] < 0) {
      where[c] = static_cast<std::int32_t>(current.size());
      current.emplace_back();
    }
    Current& now = current[static_cast<std::size_t>(where[c])];
    const std::uint64_t round = turn / size(c);
    if (now.round != round) {
      now.round = round;
      now.order = make_permutation(size(c), key, c | round << 32);
    }
    out[i] = static_cast<std::int64_t>(starts_[c] + permute(now.order, turn - round * size(c)));
  }
}

void Strata::members(std::uint64_t key, std::uint64_t start, const std::int64_t* classes,
                     std::int64_t count, std::int64_t* out) const {
  each_batch(key, kMemberStream, start, count,
             [&](std::int64_t i, const std::uint64_t* words, std::int64_t batch) {
               for (std::int64_t j = 0; j < batch; ++j) {
                 const auto c = static_cast<std::uint64_t>(classes[i + j]);
                 std::uint64_t row;
                 if (!bounded(words[j], size(c), row)) {
                   row = bounded_draw(key, start + static_cast<std::uint64_t>(i + j), size(c),
                                      kMemberStream, 1);
                 }
                 out[i + j] = static_cast<std::int64_t>(starts_[c] + row);
               }
             });
}

void Strata::groups(std::uint64_t key, const std::vector<std::int64_t>& listed, std::uint64_t first,
                    std::int64_t batches, std::int64_t per_batch, std::int64_t per_class,
                    std::int64_t* out) const {
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(per_batch));
  for (std::int64_t b = 0; b < batches; ++b) {
    const Words keys = philox_words(key, first + static_cast<std::uint64_t>(b), 0);
    choose(listed.size(), keys.first, 0, per_batch, chosen.data());
    for (const std::int64_t place : chosen) {
      const auto c = static_cast<std::uint64_t>(listed[static_cast<std::size_t>(place)]);
      choose(size(c), keys.second, c, per_class, out);
      for (std::int64_t i = 0; i < per_class; ++i) *out++ += static_cast<std::int64_t>(starts_[c]);
    }
  }
}

}  // namespace subgrad
