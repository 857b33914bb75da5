// Uniform draws, with and without replacement.
#pragma once

#include <cstdint>

namespace subgrad {

// Draws number start, start + 1, ... from [0, n), with replacement.
void uniform_draws(std::uint64_t key, std::uint64_t start, std::int64_t count, std::uint64_t n,
                   std::int64_t* out);

// The first k of an order of [0, n): k different indices in O(k).
void choose(std::uint64_t n, std::uint64_t key, std::uint64_t stream, std::int64_t k,
            std::int64_t* out);

}  // namespace subgrad
