#include "cpu/sampling/draws.h"

#include <numeric>

#include "cpu/sampling/words.h"
#include "samplers/draw.h"

namespace subgrad {

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

}  // namespace subgrad
